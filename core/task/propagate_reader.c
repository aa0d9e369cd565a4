/*
 * Frames in the order in which intervals ask for them: the two keyframes, then everything from the left one to the right one, then the
 * next interval. Reading forward step by step and keeping what was passed makes that one pass over the clip, instead of two seeks an
 * interval, each of which decodes from the video's last key picture.
 */
#include <stdlib.h>

#include "core/task/propagate_impl.h"

#define HELD_BYTES ((int64_t)64 << 20)
#define FORWARD_FRAMES (PROPAGATE_CHUNK + 4) /* farther away a seek may find a shorter way */

void reader_init(struct reader *r, int w, int h)
{
    int64_t fit = HELD_BYTES / (3 * (int64_t)w * h);
    *r = (struct reader){.next = -1, .room = fit < 2 ? 2 : fit > READER_HELD ? READER_HELD : (int)fit};
}

void reader_fini(struct reader *r)
{
    while (r->n > 0)
        frame_unref(r->held[--r->n]);
    r->next = -1;
}

/* Takes the reference over. */
static void keep(struct reader *r, struct frame *f)
{
    if (r->n == r->room) {
        frame_unref(r->held[0]);
        r->n--;
        for (int i = 0; i < r->n; i++)
            r->held[i] = r->held[i + 1];
    }
    r->held[r->n++] = f;
}

static int check_size(const struct pjob *j, int64_t n, const struct frame *f, struct err *e)
{
    if (f->width_px == j->w && f->height_px == j->h)
        return 0;
    return err_set(e, ERR_INVALID, "frame %lld is %d x %d, the first one %d x %d", (long long)n, f->width_px,
                   f->height_px, j->w, j->h);
}

/* Reads the frame at r->next, or with r->next < 0 the n-th, and keeps it. */
static int step(struct pjob *j, int64_t n, struct err *e)
{
    struct reader *r = &j->reader;
    struct frame *f = NULL;
    bool seek = r->next < 0;
    int64_t at = seek ? n : r->next;
    int rc = seek ? clip_seek_frame(j->clip, n, &f, e) : clip_next(j->clip, &f, e);
    if (!seek && rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "the clip ends before it");
    if (rc < 0)
        return err_wrap(e, "frame %lld", (long long)at);
    rc = check_size(j, at, f, e);
    if (rc) {
        frame_unref(f);
        return rc;
    }
    keep(r, f);
    r->next = at + 1;
    return 0;
}

int pjob_frame(struct pjob *j, int64_t n, struct frame **out, struct err *e)
{
    struct reader *r = &j->reader;
    *out = NULL;
    int64_t first = r->next - r->n; /* held[0]; they follow each other */
    if (r->next < 0 || n < first || n >= r->next + FORWARD_FRAMES)
        reader_fini(r);
    int rc = 0;
    while (rc == 0 && n >= r->next)
        rc = step(j, n, e);
    if (rc) {
        reader_fini(r);
        return rc;
    }
    *out = frame_ref(r->held[n - (r->next - r->n)]);
    return 0;
}
