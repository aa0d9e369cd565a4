/* Shared by the media tests: a temporary directory, clips made by the ffmpeg program, pictures that carry their number. */
#ifndef TESTS_UNIT_MEDIA_FIXTURE_H
#define TESTS_UNIT_MEDIA_FIXTURE_H

#include "tests/unit/check.h"

#include <dirent.h>
#include <stdbool.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/media/clip.h"
#include "core/media/image.h"

static char tmp_dir[] = "/tmp/salient-media-XXXXXX";

static inline int make_tmp(void **state)
{
    struct err e = {0};
    (void)state;
    return clip_sandbox_start(&e) == 0 && mkdtemp(tmp_dir) ? 0 : -1; /* its descriptor is open from the start */
}

static inline int remove_tmp(void **state)
{
    (void)state;
    return fs_remove_tree(tmp_dir, NULL);
}

/* Path below the temporary directory; static storage, eight at a time. */
static inline const char *tmp(const char *name)
{
    static char paths[8][FS_PATH_MAX];
    static unsigned next;
    char *p = paths[next++ % 8];
    assert_int_equal(fs_join(p, tmp_dir, name, NULL), 0);
    return p;
}

/* Runs ffmpeg; false, loudly, when the program or one of its encoders is not there. */
static inline bool ffmpeg(const char *args)
{
    char cmd[2048];
    snprintf(cmd, sizeof(cmd), "cd %s && ffmpeg -nostdin -v error -y %s >/dev/null 2>&1", tmp_dir, args);
    if (system(cmd) == 0)
        return true;
    fprintf(stderr, "SKIPPED: cannot run: ffmpeg %s\n", args);
    return false;
}

/* A lavfi source of n grey pictures, the k-th of value 16 + 4k (mod 200), with some texture to compress. */
#define NUMBERED(size, n) \
    "-f lavfi -i color=black:s=" size ":r=25,geq=lum='mod(N*4\\,200)+16+mod(X+Y\\,3)':cb=128:cr=128 -frames:v " #n

static inline double mean_of(const struct frame *f)
{
    double sum = 0;
    int n = f->width_px * frame_channels(f->fmt);
    for (int y = 0; y < f->height_px; y++)
        for (int x = 0; x < n; x++)
            sum += f->data[(size_t)y * (size_t)f->stride_bytes + (size_t)x];
    return sum / n / f->height_px;
}

/* FNV-1a over the pixels. */
static inline uint64_t hash_of(const struct frame *f)
{
    uint64_t h = 1469598103934665603u;
    for (int y = 0; y < f->height_px; y++)
        for (int x = 0; x < f->width_px * frame_channels(f->fmt); x++)
            h = (h ^ f->data[(size_t)y * (size_t)f->stride_bytes + (size_t)x]) * 1099511628211u;
    return h;
}

static inline int open_fds(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

#endif
