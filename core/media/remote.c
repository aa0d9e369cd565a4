/*
 * The trusting side of remote.h, which trusts nothing: replies are checked before they are used, time is watched from outside as
 * well, and a child that ends without a word is an error of the clip.
 */
#include "core/media/remote.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/media/entries.h"
#include "core/media/nursery.h"
#include "core/media/remote_wire.h"

#define SHM_FAILED ((void *)-1)
#define START_MS 30000 /* a service that just began, on a busy machine, may still load its libraries */
#define SLACK_MS 5000  /* for a busy machine, on top of the decoding time */

struct remote {
    int socket;
    pid_t pid;
    const uint8_t *memory;
    int64_t slot_bytes;
    struct clip_limits limits;
};

/* ---- one child ----------------------------------------------------------------------------------------------------- */

/*
 * A System V segment. Unlike a file in memory it does not count against RLIMIT_FSIZE, and the other side cannot shrink it under our
 * feet. It is marked for removal at once, so it goes with its last user whatever happens; Linux lets the child attach to it still.
 * Pages exist only once touched.
 */
static int share_memory(struct remote *r, int *id, struct err *e)
{
    *id = shmget(IPC_PRIVATE, (size_t)(r->slot_bytes * REMOTE_SLOTS), IPC_CREAT | SHM_NORESERVE | 0600);
    void *at = *id < 0 ? SHM_FAILED : shmat(*id, NULL, SHM_RDONLY);
    int rc = at == SHM_FAILED ? err_errno(e, "cannot share memory with the decoder") : 0;
    if (*id >= 0)
        shmctl(*id, IPC_RMID, NULL);
    r->memory = rc == 0 ? at : NULL;
    return rc;
}

static int wait_readable(struct remote *r, int64_t timeout_ms, const char *what, int64_t limit_ms, struct err *e)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    for (;;) {
        int64_t left = end - clock_mono_ms();
        struct pollfd p = {.fd = r->socket, .events = POLLIN};
        int rc = left > 0 ? poll(&p, 1, (int)(left < INT32_MAX ? left : INT32_MAX)) : 0;
        if (rc > 0)
            return 0;
        if (rc == 0 && clock_mono_ms() >= end) {
            if (r->pid > 0) /* it holds the socket, so the number is still its own */
                kill(r->pid, SIGKILL);
            return err_set(e, ERR_TIMEOUT, "%s took longer than %lld ms", what, (long long)limit_ms);
        }
        if (rc < 0 && errno != EINTR)
            return err_errno(e, "waiting for the decoder");
    }
}

static int say_hello(struct remote *r, struct err *e)
{
    struct remote_hello hello;
    int rc = wait_readable(r, START_MS, "starting a decoder", START_MS, e);
    if (rc == 0 && (remote_receive(r->socket, &hello, sizeof(hello), NULL) <= 0 || hello.pid <= 0))
        rc = err_set(e, ERR_NOMEM, "cannot start a decoder");
    if (rc == 0)
        r->pid = hello.pid;
    return rc;
}

int remote_open(int fd, const struct clip_limits *limits, struct remote **out, struct err *e)
{
    int pair[2] = {-1, -1}, memory;
    *out = NULL;
    struct remote *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_NOMEM, "out of memory");
    r->socket = -1;
    r->limits = *limits;
    r->slot_bytes = (limits->max_pixels * 3 + 0xffff) & ~(int64_t)0xffff;
    int rc = share_memory(r, &memory, e);
    if (rc == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        rc = err_errno(e, "cannot talk to the decoder");
    if (rc == 0) {
        struct remote_birth birth = {
            .limits = *limits, .slot_bytes = r->slot_bytes, .memory = memory, .has_input = fd >= 0};
        r->socket = pair[0];
        rc = nursery_fork(&birth, (int[]){pair[1], fd}, e);
        close(pair[1]);
    }
    if (rc == 0)
        rc = say_hello(r, e);
    if (rc < 0) {
        remote_close(r);
        return rc;
    }
    *out = r;
    return 0;
}

void remote_close(struct remote *r)
{
    if (!r)
        return;
    if (r->socket >= 0)
        close(r->socket);
    if (r->pid > 0)
        kill(r->pid, SIGKILL); /* nothing it could still do matters */
    if (r->memory)
        shmdt(r->memory);
    free(r);
}

/* ---- calls --------------------------------------------------------------------------------------------------------- */

static int call_send(struct remote *r, enum remote_op op, int slot, int64_t n, int fd, struct err *e)
{
    struct remote_call call = {.op = op, .slot = slot, .n = n};
    if (remote_send(r->socket, &call, sizeof(call), &fd, fd >= 0) > 0)
        return 0;
    return err_set(e, ERR_CORRUPT, "the decoder died of it");
}

static void clean_text(char *s, size_t n)
{
    s[n - 1] = 0;
    for (; *s; s++)
        if ((unsigned char)*s < ' ' || *s == 0x7f)
            *s = '?';
}

static bool is_error_code(int code)
{
    switch (code) {
#define X(tag, name, value, text) case value:
#include "core/base/err.def"
#undef X
        return true;
    default:
        return false;
    }
}

static bool info_is_sane(const struct clip_info *i)
{
    return i->kind <= CLIP_FOLDER && i->frames >= 0 && isfinite(i->fps) && i->fps >= 0 && isfinite(i->duration_s) &&
           i->duration_s >= 0;
}

static int call_receive(struct remote *r, struct remote_reply *reply, struct err *e)
{
    int rc = wait_readable(r, r->limits.max_decode_ms + SLACK_MS, "decoding", r->limits.max_decode_ms, e);
    if (rc < 0)
        return rc;
    if (remote_receive(r->socket, reply, sizeof(*reply), NULL) <= 0)
        return err_set(e, ERR_CORRUPT, "the decoder died of it");
    clean_text(reply->text, sizeof(reply->text));
    clean_text(reply->info.codec, sizeof(reply->info.codec));
    clean_text(reply->info.format, sizeof(reply->info.format));
    if (reply->rc < 0)
        return err_set(e, is_error_code(reply->rc) ? reply->rc : ERR_CORRUPT, "%s",
                       reply->text[0] ? reply->text : "the decoder gave no reason");
    if (reply->rc > 1 || !info_is_sane(&reply->info))
        return err_set(e, ERR_CORRUPT, "the decoder gave a senseless answer");
    return reply->rc;
}

static int call(struct remote *r, enum remote_op op, int slot, int64_t n, struct remote_reply *reply, struct err *e)
{
    int rc = call_send(r, op, slot, n, -1, e);
    return rc < 0 ? rc : call_receive(r, reply, e);
}

/* The picture of a slot, copied out: afterwards the child cannot change it. */
static int take_picture(struct remote *r, int slot, const struct remote_reply *reply, struct source_env *env,
                        struct frame **out, struct err *e)
{
    int rc = source_check_size(env, reply->width_px, reply->height_px, e);
    if (rc == 0)
        rc = frame_pool_get(env->pool, FRAME_RGB24, reply->width_px, reply->height_px, out, e);
    if (rc < 0)
        return rc;
    size_t row = (size_t)reply->width_px * 3;
    const uint8_t *from = r->memory + (int64_t)slot * r->slot_bytes;
    for (int y = 0; y < reply->height_px; y++)
        memcpy((*out)->data + (size_t)y * (size_t)(*out)->stride_bytes, from + (size_t)y * row, row);
    (*out)->ordinal = reply->ordinal;
    (*out)->pts_ms = reply->pts_ms;
    return 1;
}

int remote_still(struct remote *r, int fd, struct source_env *env, struct frame **out, char codec[32], struct err *e)
{
    struct remote_reply reply;
    *out = NULL;
    int rc = call_send(r, REMOTE_STILL, 0, 0, fd, e);
    if (rc == 0)
        rc = call_receive(r, &reply, e);
    if (rc == 0)
        rc = err_set(e, ERR_CORRUPT, "the decoder gave no picture");
    if (rc > 0)
        rc = take_picture(r, 0, &reply, env, out, e);
    if (rc < 0)
        return rc;
    snprintf(codec, 32, "%s", reply.info.codec);
    return 0;
}

/* ---- as a source --------------------------------------------------------------------------------------------------- */

struct remote_clip {
    struct source base;
    struct remote *remote;
    char **names; /* of a zip's frames */
    int64_t n_names, next;
    int slot;   /* the next picture goes there */
    bool ahead; /* a REMOTE_NEXT is under way */
};

/* A picture that was asked for ahead, or asked for now; the following one is asked for before this one is looked at. */
static int remote_next(struct source *s, struct frame **out, struct err *e)
{
    struct remote_clip *c = (struct remote_clip *)s;
    struct remote_reply reply;
    int slot = c->slot, rc = 0;
    if (!c->ahead)
        rc = call_send(c->remote, out ? REMOTE_NEXT : REMOTE_SKIP, slot, 0, -1, e);
    c->ahead = false;
    if (rc == 0)
        rc = call_receive(c->remote, &reply, e);
    if (rc <= 0)
        return rc;
    if (out && reply.ordinal != c->next)
        return err_set(e, ERR_CORRUPT, "the decoder gave a senseless answer");
    if (c->next >= s->env->limits.max_frames)
        return err_set(e, ERR_LIMIT, "more than %lld pictures", (long long)s->env->limits.max_frames);
    c->next++;
    if (!out)
        return 1;
    if (s->info.codec[0] == 0)
        memcpy(s->info.codec, reply.info.codec, sizeof(s->info.codec));
    c->slot = (slot + 1) % REMOTE_SLOTS;
    rc = call_send(c->remote, REMOTE_NEXT, c->slot, 0, -1, e);
    if (rc < 0)
        return rc;
    c->ahead = true;
    return take_picture(c->remote, slot, &reply, s->env, out, e);
}

static int remote_seek(struct source *s, int64_t n, struct err *e)
{
    struct remote_clip *c = (struct remote_clip *)s;
    struct remote_reply reply;
    if (c->ahead)
        call_receive(c->remote, &reply, NULL);
    c->ahead = false;
    int rc = call(c->remote, REMOTE_SEEK, 0, n, &reply, e);
    c->next = n;
    return rc < 0 ? rc : 0;
}

static const char *remote_name(const struct source *s, int64_t ordinal)
{
    const struct remote_clip *c = (const struct remote_clip *)s;
    return ordinal >= 0 && ordinal < c->n_names ? c->names[ordinal] : NULL;
}

static void remote_clip_close(struct source *s)
{
    struct remote_clip *c = (struct remote_clip *)s;
    for (int64_t i = 0; i < c->n_names; i++)
        free(c->names[i]);
    free(c->names);
    remote_close(c->remote);
    free(c);
}

static const struct source_ops remote_ops = {.next = remote_next, .seek = remote_seek, .close = remote_clip_close};
static const struct source_ops remote_zip_ops = {
    .next = remote_next, .seek = remote_seek, .name = remote_name, .close = remote_clip_close};

/* Copies the names out of the slot first: the child could change them between a check and a use. */
static int take_names(struct remote_clip *c, int64_t count, struct err *e)
{
    int64_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const char *from = (const char *)c->remote->memory + at;
        char *name = strndup(from, (size_t)(c->remote->slot_bytes - at));
        if (!name)
            return err_set(e, ERR_NOMEM, "out of memory");
        at += (int64_t)strlen(name) + 1;
        if (at > c->remote->slot_bytes || entries_check_path(name, e) < 0) {
            free(name);
            return err_set(e, ERR_CORRUPT, "the decoder gave a senseless name");
        }
        c->names[c->n_names++] = name;
    }
    return 0;
}

static int fetch_names(struct remote_clip *c, struct err *e)
{
    struct remote_reply reply;
    int64_t frames = c->base.info.frames;
    if (frames > c->base.env->limits.max_frames)
        return err_set(e, ERR_LIMIT, "more than %lld pictures", (long long)c->base.env->limits.max_frames);
    if (!(c->names = calloc((size_t)frames + 1, sizeof(*c->names))))
        return err_set(e, ERR_NOMEM, "out of memory");
    while (c->n_names < frames) {
        int rc = call(c->remote, REMOTE_NAMES, 0, c->n_names, &reply, e);
        if (rc == 0 && (reply.count <= 0 || reply.count > frames - c->n_names))
            rc = err_set(e, ERR_CORRUPT, "the decoder gave a senseless answer");
        if (rc == 0)
            rc = take_names(c, reply.count, e);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int source_open_remote(struct remote *r, struct source_env *env, struct source **out, struct err *e)
{
    struct remote_reply reply;
    *out = NULL;
    struct remote_clip *c = calloc(1, sizeof(*c));
    if (!c) {
        remote_close(r);
        return err_set(e, ERR_NOMEM, "out of memory");
    }
    c->base = (struct source){.ops = &remote_ops, .env = env};
    c->remote = r;
    int rc = call(r, REMOTE_OPEN, 0, 0, &reply, e);
    if (rc == 0) {
        c->base.info = reply.info;
        if (c->base.info.kind == CLIP_ZIP) {
            c->base.ops = &remote_zip_ops;
            rc = fetch_names(c, e);
        }
    }
    if (rc < 0) {
        remote_clip_close(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}
