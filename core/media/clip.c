/*
 * Clips: chooses the source by content, keeps the limits' clock, and reads one picture ahead at opening so that a clip
 * that opened has a first picture. Time counts only while a call is inside the clip: a slow consumer does not use up
 * the decoder's time.
 */
#include "core/media/clip.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/media/clip_source.h"
#include "core/media/entries.h"
#include "core/media/nursery.h"
#include "core/media/remote.h"

struct clip {
    struct source *source;
    struct source_env env;
    struct frame_pool *own_pool;
    struct frame *ahead; /* the first picture, until it is asked for */
    int fd;
    int64_t next; /* ordinal that clip_next gives */
    int64_t spent_ms;
    char *stem; /* name of a single image */
};

const struct clip_limits clip_limits_default = {
    .max_bytes = (int64_t)4 << 30,
    .max_unpacked_bytes = (int64_t)8 << 30,
    .max_pixels = (int64_t)64 << 20,
    .max_frames = 100000,
    .max_decode_ms = 60 * 60 * 1000,
    .max_side_px = 16384,
    .threads = 2,
    .max_damaged = 0,
};

static struct clip_limits with_defaults(const struct clip_limits *given)
{
    struct clip_limits l = given ? *given : clip_limits_default;
    const struct clip_limits *d = &clip_limits_default;
    l.max_bytes = l.max_bytes ? l.max_bytes : d->max_bytes;
    l.max_unpacked_bytes = l.max_unpacked_bytes ? l.max_unpacked_bytes : d->max_unpacked_bytes;
    l.max_pixels = l.max_pixels ? l.max_pixels : d->max_pixels;
    l.max_frames = l.max_frames ? l.max_frames : d->max_frames;
    l.max_decode_ms = l.max_decode_ms ? l.max_decode_ms : d->max_decode_ms;
    l.max_side_px = l.max_side_px ? l.max_side_px : d->max_side_px;
    l.threads = l.threads ? l.threads : d->threads;
    return l;
}

static int64_t clock_in(struct clip *c)
{
    int64_t now = clock_mono_ms();
    c->env.deadline_ms = now + c->env.limits.max_decode_ms - c->spent_ms;
    return now;
}

static void clock_out(struct clip *c, int64_t since)
{
    c->spent_ms += clock_mono_ms() - since;
}

/* A regular file of a legal size, open in c->fd. */
static int open_file(struct clip *c, const char *path, int64_t *size, struct err *e)
{
    struct stat st;
    /* O_NONBLOCK: a FIFO must not hang us; regular files ignore it. */
    c->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (c->fd < 0 || fstat(c->fd, &st) < 0)
        return err_errno(e, "cannot be opened");
    if (!S_ISREG(st.st_mode))
        return err_set(e, ERR_UNSUPPORTED, "not a file or a folder");
    if (st.st_size == 0)
        return err_set(e, ERR_CORRUPT, "the file is empty");
    if (st.st_size > c->env.limits.max_bytes)
        return err_set(e, ERR_LIMIT, "%lld bytes are over the limit of %lld", (long long)st.st_size,
                       (long long)c->env.limits.max_bytes);
    *size = st.st_size;
    return 0;
}

static int open_file_source(struct clip *c, const char *path, struct err *e)
{
    int64_t size = 0;
    struct remote *remote;
    int rc = open_file(c, path, &size, e);
    if (rc < 0)
        return rc;
    if (c->env.limits.sandbox == CLIP_UNSANDBOXED)
        rc = source_open_file((struct source_bytes){.fd = c->fd, .size = size}, &c->env, &c->source, e);
    else if ((rc = remote_open(c->fd, &c->env.limits, &remote, e)) == 0)
        rc = source_open_remote(remote, &c->env, &c->source, e);
    if (rc == 0 && c->source->info.kind == CLIP_IMAGE && !(c->stem = entries_stem(path)))
        rc = err_set(e, ERR_NOMEM, "out of memory");
    return rc;
}

static int open_source(struct clip *c, const char *path, struct err *e)
{
    struct stat st;
    int rc = 0;
    if (stat(path, &st) < 0)
        return err_errno(e, "cannot be opened");
    if (!S_ISDIR(st.st_mode))
        return open_file_source(c, path, e);
    if (c->env.limits.sandbox == CLIP_SANDBOXED)
        rc = remote_open(-1, &c->env.limits, &c->env.remote, e);
    return rc == 0 ? source_open_folder(path, &c->env, &c->source, e) : rc;
}

static int read_ahead(struct clip *c, struct err *e)
{
    int rc = c->source->ops->next(c->source, &c->ahead, e);
    if (rc == 0)
        return err_set(e, ERR_CORRUPT, "holds no picture");
    if (rc < 0)
        return rc;
    c->source->info.width_px = c->ahead->width_px;
    c->source->info.height_px = c->ahead->height_px;
    c->source->info.frames_exact = c->source->info.kind != CLIP_VIDEO && c->source->info.frames > 0;
    return 0;
}

int clip_sandbox_start(struct err *e)
{
    return nursery_start(e);
}

void clip_sandbox_use(int requests)
{
    nursery_use(requests);
}

void clip_sandbox_serve(int requests)
{
    nursery_serve(requests);
}

int clip_open(const char *path, const struct clip_limits *limits, struct clip **out, struct err *e)
{
    *out = NULL;
    struct clip *c = calloc(1, sizeof(*c));
    if (!c)
        return err_set(e, ERR_NOMEM, "out of memory");
    c->fd = -1;
    c->env.limits = with_defaults(limits);
    int64_t since = clock_in(c);
    c->own_pool = c->env.pool = frame_pool_new(0);
    int rc = c->own_pool ? open_source(c, path, e) : err_set(e, ERR_NOMEM, "out of memory");
    if (rc == 0)
        rc = read_ahead(c, e);
    clock_out(c, since);
    if (rc != 0) {
        err_wrap(e, "%s", path);
        clip_close(c);
        return rc;
    }
    *out = c;
    return 0;
}

const struct clip_info *clip_info(const struct clip *c)
{
    return &c->source->info;
}

static void note_end(struct clip *c, int64_t frames)
{
    c->source->info.frames = frames;
    c->source->info.frames_exact = true;
}

/* out NULL: count only. */
static int next_picture(struct clip *c, struct frame **out, struct err *e)
{
    if (c->ahead && c->next == 0) {
        if (out)
            *out = c->ahead;
        else
            frame_unref(c->ahead);
        c->ahead = NULL;
        c->next = 1;
        return 1;
    }
    int64_t since = clock_in(c);
    int rc = c->source->ops->next(c->source, out, e);
    clock_out(c, since);
    if (rc == 0)
        note_end(c, c->next);
    c->next += rc > 0;
    return rc;
}

int clip_next(struct clip *c, struct frame **out, struct err *e)
{
    *out = NULL;
    return next_picture(c, out, e);
}

int clip_seek_frame(struct clip *c, int64_t n, struct frame **out, struct err *e)
{
    *out = NULL;
    if (n < 0)
        return err_set(e, ERR_NOTFOUND, "no picture %lld", (long long)n);
    if (c->ahead && n > 0) {
        frame_unref(c->ahead);
        c->ahead = NULL;
        c->next = 1;
    }
    if (n != c->next) {
        int64_t since = clock_in(c);
        int rc = c->source->ops->seek(c->source, n, e);
        clock_out(c, since);
        if (rc < 0)
            return rc;
        c->next = n;
    }
    int rc = next_picture(c, out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "no picture %lld: the clip has %lld", (long long)n, (long long)c->next)
                   : rc;
}

const char *clip_frame_name(const struct clip *c, int64_t ordinal)
{
    if (c->source->ops->name)
        return c->source->ops->name(c->source, ordinal);
    return ordinal == 0 ? c->stem : NULL;
}

void clip_use_pool(struct clip *c, struct frame_pool *p)
{
    c->env.pool = p;
}

void clip_close(struct clip *c)
{
    if (!c)
        return;
    frame_unref(c->ahead);
    if (c->source)
        c->source->ops->close(c->source);
    remote_close(c->env.remote);
    frame_pool_free(c->own_pool);
    if (c->fd >= 0)
        close(c->fd);
    free(c->stem);
    free(c);
}

int clip_probe(const char *path, const struct clip_limits *limits, struct clip_info *info, struct err *e)
{
    struct clip *c = NULL;
    int rc = clip_open(path, limits, &c, e);
    if (rc != 0)
        return rc;
    while ((rc = next_picture(c, NULL, e)) > 0)
        ;
    if (rc < 0)
        err_wrap(e, "%s", path);
    else
        *info = *clip_info(c);
    clip_close(c);
    return rc;
}
