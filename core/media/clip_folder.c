/*
 * A folder of images as a clip: all images below it, in natural order of their paths. The folder is named by the person
 * who runs the program, so links are followed; the images in it are trusted no more than any other.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/media/clip_source.h"
#include "core/media/entries.h"
#include "core/media/remote.h"

#define FOLDER_DEPTH_MAX 8
#define IMAGE_BYTES_MAX ((int64_t)256 << 20)

struct folder {
    struct source base;
    struct entries entries;
    int64_t next, total_bytes;
    char path[FS_PATH_MAX];
};

static int list_folder(struct folder *f, const char *below, int depth, struct err *e);

static int list_one(struct folder *f, const char *path, int depth, struct err *e)
{
    char full[FS_PATH_MAX];
    struct stat st;
    const struct clip_limits *l = &f->base.env->limits;
    int rc = fs_join(full, f->path, path, e);
    if (rc < 0 || stat(full, &st) < 0)
        return rc < 0 ? rc : err_errno(e, "%s", full);
    if (S_ISDIR(st.st_mode))
        return depth < FOLDER_DEPTH_MAX ? list_folder(f, path, depth + 1, e) : 0;
    if (!S_ISREG(st.st_mode) || !entries_is_image(path))
        return 0;
    if ((int64_t)f->entries.n >= l->max_frames)
        return err_set(e, ERR_LIMIT, "more than %lld pictures", (long long)l->max_frames);
    if ((f->total_bytes += st.st_size) > l->max_bytes)
        return err_set(e, ERR_LIMIT, "more than %lld bytes", (long long)l->max_bytes);
    return entries_add(&f->entries, path, st.st_size, f->entries.n, e);
}

static int list_folder(struct folder *f, const char *below, int depth, struct err *e)
{
    char full[FS_PATH_MAX], path[FS_PATH_MAX];
    struct fs_list names = {0};
    int rc = fs_join(full, f->path, below, e);
    if (rc == 0)
        rc = fs_list(full, &names, e);
    for (size_t i = 0; rc == 0 && i < names.n; i++) {
        if (names.names[i][0] == '.')
            continue;
        if (below[0])
            rc = fs_join(path, below, names.names[i], e);
        else
            snprintf(path, sizeof(path), "%s", names.names[i]);
        if (rc == 0)
            rc = list_one(f, path, depth, e);
    }
    fs_list_free(&names);
    return rc;
}

/* Opened here and decoded where the clip is decoded. */
static int decode_file(struct folder *f, const char *path, struct frame **out, char codec[32], struct err *e)
{
    struct buf file = BUF_INIT;
    struct source_env *env = f->base.env;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t size = fd >= 0 ? lseek(fd, 0, SEEK_END) : -1;
    int rc = size >= 0 ? 0 : err_errno(e, "cannot be read");
    if (rc == 0 && env->remote) {
        rc = remote_still(env->remote, fd, env, out, codec, e);
    } else if (rc == 0) {
        rc = source_read_all((struct source_bytes){.fd = fd, .size = size}, IMAGE_BYTES_MAX, &file, e);
        if (rc == 0)
            rc = source_decode_still(file.data, file.len, env, out, codec, e);
    }
    buf_free(&file);
    if (fd >= 0)
        close(fd);
    return rc;
}

static int folder_next(struct source *s, struct frame **out, struct err *e)
{
    struct folder *f = (struct folder *)s;
    if (f->next >= (int64_t)f->entries.n)
        return 0;
    char full[FS_PATH_MAX], codec[32];
    const char *path = f->entries.v[f->next].path;
    struct frame *picture = NULL;
    int rc = source_check_time(s->env, e);
    if (rc == 0)
        rc = fs_join(full, f->path, path, e);
    if (rc == 0 && (rc = decode_file(f, full, &picture, codec, e)) < 0)
        err_wrap(e, "%.200s", path);
    if (rc != 0)
        return rc;
    if (f->next == 0)
        memcpy(s->info.codec, codec, sizeof(codec));
    picture->ordinal = f->next++;
    picture->pts_ms = -1;
    if (out)
        *out = picture;
    else
        frame_unref(picture);
    return 1;
}

static int folder_seek(struct source *s, int64_t n, struct err *e)
{
    struct folder *f = (struct folder *)s;
    if (n > (int64_t)f->entries.n)
        return err_set(e, ERR_NOTFOUND, "no picture %lld: the clip has %zu", (long long)n, f->entries.n);
    f->next = n;
    return 0;
}

static const char *folder_name(const struct source *s, int64_t ordinal)
{
    const struct folder *f = (const struct folder *)s;
    return ordinal >= 0 && ordinal < (int64_t)f->entries.n ? f->entries.v[ordinal].name : NULL;
}

static void folder_close(struct source *s)
{
    struct folder *f = (struct folder *)s;
    entries_free(&f->entries);
    free(f);
}

static const struct source_ops folder_ops = {
    .next = folder_next, .seek = folder_seek, .name = folder_name, .close = folder_close};

int source_open_folder(const char *path, struct source_env *env, struct source **out, struct err *e)
{
    struct folder *f = calloc(1, sizeof(*f));
    *out = NULL;
    if (!f)
        return err_set(e, ERR_NOMEM, "out of memory");
    f->base = (struct source){.ops = &folder_ops, .env = env, .info = {.kind = CLIP_FOLDER, .format = "folder"}};
    int rc = strlen(path) < sizeof(f->path) ? 0 : err_set(e, ERR_LIMIT, "path too long");
    if (rc == 0) {
        memcpy(f->path, path, strlen(path) + 1);
        rc = list_folder(f, "", 0, e);
    }
    if (rc == 0)
        rc = entries_finish(&f->entries, e);
    if (rc < 0) {
        folder_close(&f->base);
        return rc;
    }
    f->base.info.frames = (int64_t)f->entries.n;
    *out = &f->base;
    return 0;
}
