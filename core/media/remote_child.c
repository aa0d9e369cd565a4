/*
 * The confined side of remote.h: a loop that answers calls. It runs in a process of its own and is the only code that touches
 * untrusted bytes when a clip is opened sandboxed.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/media/clip_source.h"
#include "core/media/remote_wire.h"
#include "core/media/sandbox.h"

#define CHILD_MEMORY_BYTES ((int64_t)1 << 30) /* beyond what grows with the pictures */
#define CHILD_BYTES_PER_PIXEL 48              /* reference pictures, conversion, the slots */
#define STILL_FILE_MAX ((int64_t)256 << 20)

struct child {
    int socket, input;
    uint8_t *memory;
    int64_t slot_bytes, spent_ms;
    struct source_env env;
    struct source *source;
};

int remote_send(int socket, const void *data, size_t n, const int *fds, int n_fds)
{
    char control[CMSG_SPACE(REMOTE_FDS * sizeof(int))] = {0};
    struct iovec io = {.iov_base = (void *)(uintptr_t)data, .iov_len = n};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
    if (n_fds) {
        m.msg_control = control;
        m.msg_controllen = CMSG_SPACE((size_t)n_fds * sizeof(int));
        struct cmsghdr *c = CMSG_FIRSTHDR(&m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)n_fds * sizeof(int));
    }
    ssize_t sent;
    do
        sent = sendmsg(socket, &m, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)n ? 1 : -1;
}

int remote_receive(int socket, void *data, size_t n, int fds[REMOTE_FDS])
{
    char control[CMSG_SPACE(REMOTE_FDS * sizeof(int))];
    struct iovec io = {.iov_base = data, .iov_len = n};
    struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
    ssize_t got;
    int count = 0;
    for (int i = 0; fds && i < REMOTE_FDS; i++)
        fds[i] = -1;
    do
        got = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    for (struct cmsghdr *c = got > 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        int *sent = (int *)(void *)CMSG_DATA(c);
        size_t n_sent = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n_sent; i++) {
            if (fds && count < REMOTE_FDS)
                fds[count++] = sent[i];
            else
                close(sent[i]); /* nobody asked for it */
        }
    }
    if (got == 0)
        return 0;
    errno = got < 0 ? errno : EPROTO;
    return got == (ssize_t)n ? 1 : -1;
}

static int put_in_slot(struct child *c, int slot, const struct frame *f, struct remote_reply *r, struct err *e)
{
    size_t row = (size_t)f->width_px * 3;
    if (slot < 0 || slot >= REMOTE_SLOTS || (int64_t)row * f->height_px > c->slot_bytes)
        return err_set(e, ERR_LIMIT, "a picture of %d x %d is over the limit", f->width_px, f->height_px);
    uint8_t *to = c->memory + (int64_t)slot * c->slot_bytes;
    for (int y = 0; y < f->height_px; y++)
        memcpy(to + (size_t)y * row, f->data + (size_t)y * (size_t)f->stride_bytes, row);
    r->width_px = f->width_px;
    r->height_px = f->height_px;
    r->ordinal = f->ordinal;
    r->pts_ms = f->pts_ms;
    return 1;
}

static int do_open(struct child *c, struct err *e)
{
    off_t size = lseek(c->input, 0, SEEK_END);
    if (size < 0)
        return err_errno(e, "reading the clip");
    return source_open_file((struct source_bytes){.fd = c->input, .size = size}, &c->env, &c->source, e);
}

static int do_next(struct child *c, int slot, struct remote_reply *r, struct err *e)
{
    struct frame *f = NULL;
    int rc = c->source->ops->next(c->source, &f, e);
    if (rc > 0)
        rc = put_in_slot(c, slot, f, r, e);
    frame_unref(f);
    return rc;
}

static int do_still(struct child *c, int slot, int fd, struct remote_reply *r, struct err *e)
{
    struct buf file = BUF_INIT;
    struct frame *f = NULL;
    off_t size = lseek(fd, 0, SEEK_END);
    int rc = size < 0 ? err_errno(e, "reading the image") : 0;
    if (rc == 0)
        rc = source_read_all((struct source_bytes){.fd = fd, .size = size}, STILL_FILE_MAX, &file, e);
    if (rc == 0)
        rc = source_decode_still(file.data, file.len, &c->env, &f, r->info.codec, e);
    if (rc == 0)
        rc = put_in_slot(c, slot, f, r, e);
    frame_unref(f);
    buf_free(&file);
    return rc;
}

static int do_names(struct child *c, int slot, int64_t from, struct remote_reply *r)
{
    char *to = (char *)c->memory + (int64_t)slot * c->slot_bytes;
    int64_t used = 0;
    for (const char *name; (name = c->source->ops->name(c->source, from + r->count)); r->count++) {
        int64_t n = (int64_t)strlen(name) + 1;
        if (used + n > c->slot_bytes)
            break;
        memcpy(to + used, name, (size_t)n);
        used += n;
    }
    return 0;
}

static int dispatch(struct child *c, const struct remote_call *call, int fd, struct remote_reply *r, struct err *e)
{
    if (call->op == REMOTE_STILL)
        return do_still(c, call->slot, fd, r, e);
    if (call->op == REMOTE_OPEN && !c->source)
        return do_open(c, e);
    if (!c->source)
        return err_set(e, ERR_INTERNAL, "the decoder has no clip");
    switch (call->op) {
    case REMOTE_NEXT:
        return do_next(c, call->slot, r, e);
    case REMOTE_SKIP:
        return c->source->ops->next(c->source, NULL, e);
    case REMOTE_SEEK:
        return c->source->ops->seek(c->source, call->n, e);
    case REMOTE_NAMES:
        return c->source->ops->name ? do_names(c, call->slot, call->n, r) : 0;
    default:
        return err_set(e, ERR_INTERNAL, "the decoder does not know this call");
    }
}

static void answer(struct child *c, const struct remote_call *call, int fd)
{
    struct remote_reply r = {0};
    struct err e = {0};
    int64_t since = clock_mono_ms();
    c->env.deadline_ms = since + c->env.limits.max_decode_ms - c->spent_ms;
    r.rc = dispatch(c, call, fd, &r, &e);
    c->spent_ms += clock_mono_ms() - since;
    if (c->source)
        r.info = c->source->info;
    snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, e.msg);
    if (remote_send(c->socket, &r, sizeof(r), NULL, 0) < 0)
        _exit(0);
}

_Noreturn void remote_child(const struct remote_birth *birth, int socket, int input)
{
    struct child c = {.socket = socket, .input = input, .slot_bytes = birth->slot_bytes};
    struct err e = {0};
    c.env.limits = birth->limits;
    c.env.pool = frame_pool_new(0);
    c.memory = shmat(birth->memory, NULL, 0);
    struct sandbox_limits limits = {
        .memory_bytes = CHILD_MEMORY_BYTES + CHILD_BYTES_PER_PIXEL * birth->limits.max_pixels,
        .cpu_seconds = 2 + birth->limits.max_decode_ms / 1000 * (birth->limits.threads + 1),
    };
    if (!c.env.pool || c.memory == (void *)-1)
        _exit(1);
    int confined = sandbox_enter(&limits, &e);
    struct remote_call call;
    int fds[REMOTE_FDS];
    while (remote_receive(socket, &call, sizeof(call), fds) > 0) {
        if (confined < 0) {
            struct remote_reply r = {.rc = confined};
            snprintf(r.text, sizeof(r.text), "%.*s", (int)sizeof(r.text) - 1, e.msg);
            remote_send(socket, &r, sizeof(r), NULL, 0);
            break;
        }
        answer(&c, &call, fds[0]);
        for (int i = 0; i < REMOTE_FDS; i++)
            if (fds[i] >= 0)
                close(fds[i]);
    }
    _exit(0);
}
