/* Asking the decoder. A request carries the write end of a pipe; the answer is what comes out of it before it closes. */
#include "server/decoder.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "server/decoder_wire.h"

int decoder_init(struct decoder *d, const struct clip_limits *limits, struct err *e)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return err_errno(e, "decoder socket");
    *d = (struct decoder){.request_fd = fd[0], .child_fd = fd[1], .limits = *limits, .memory_bytes = (int64_t)2 << 30};
    return 0;
}

void decoder_fini(struct decoder *d)
{
    if (d->request_fd > 0)
        close(d->request_fd);
    if (d->child_fd > 0)
        close(d->child_fd);
    d->request_fd = d->child_fd = -1;
}

static int send_request(struct decoder *d, const struct decoder_request *r, int reply_fd, struct err *e)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = (void *)(uintptr_t)r, .iov_len = sizeof(*r)};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control)};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &reply_fd, sizeof(int));
    if (sendmsg(d->request_fd, &m, MSG_NOSIGNAL) != (ssize_t)sizeof(*r))
        return err_errno(e, "decoder");
    return 0;
}

/* Reads the answer to its end, or until the deadline. */
static int read_answer(int fd, int64_t deadline_ms, struct buf *out, struct err *e)
{
    for (;;) {
        int64_t left = deadline_ms - clock_mono_ms();
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int rc = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (rc < 0 && errno == EINTR)
            continue;
        if (rc == 0)
            return err_set(e, ERR_TIMEOUT, "the clip takes too long to decode");
        char *room = buf_reserve(out, 65536);
        if (!room)
            return err_set(e, ERR_NOMEM, "no memory for a picture");
        ssize_t n = read(fd, room, 65536);
        if (n < 0 && errno != EINTR)
            return err_errno(e, "decoder");
        if (n == 0)
            return 0;
        out->len += n > 0 ? (size_t)n : 0;
        if (out->len > DECODER_ANSWER_MAX)
            return err_set(e, ERR_LIMIT, "the picture is too large");
    }
}

/* The answer comes from a process that saw hostile data: nothing in it is believed. */
static int check_answer(const struct buf *b, struct decoder_answer *a, struct err *e)
{
    if (b->len < sizeof(*a))
        return err_set(e, ERR_CORRUPT, "the decoder failed on this clip");
    memcpy(a, b->data, sizeof(*a));
    a->message[sizeof(a->message) - 1] = a->info.codec[sizeof(a->info.codec) - 1] =
        a->info.format[sizeof(a->info.format) - 1] = '\0';
    bool sane = a->info.width_px >= 0 && a->info.height_px >= 0 && a->info.frames >= 0 && a->rc <= 0;
    if (!sane || b->len - sizeof(*a) != (size_t)a->payload_bytes)
        return err_set(e, ERR_CORRUPT, "the decoder failed on this clip");
    return a->rc < 0 ? err_set(e, a->rc, "%s", a->message) : 0;
}

static int ask(struct decoder *d, struct decoder_request *r, const char *path, struct decoder_answer *a,
               struct buf *answer, struct err *e)
{
    int fd[2];
    if (strlen(path) >= sizeof(r->path))
        return err_set(e, ERR_LIMIT, "path too long");
    strcpy(r->path, path);
    r->limits = d->limits;
    r->memory_bytes = d->memory_bytes;
    if (pipe2(fd, O_CLOEXEC) != 0)
        return err_errno(e, "decoder pipe");
    int rc = send_request(d, r, fd[1], e);
    close(fd[1]);
    int64_t budget = d->limits.max_decode_ms ? d->limits.max_decode_ms : clip_limits_default.max_decode_ms;
    if (rc == 0)
        rc = read_answer(fd[0], clock_mono_ms() + budget + DECODER_SLACK_MS, answer, e);
    close(fd[0]);
    return rc == 0 ? check_answer(answer, a, e) : rc;
}

int decoder_probe(struct decoder *d, const char *path, bool count, struct clip_info *info, struct err *e)
{
    struct decoder_request r = {.op = count ? DECODER_COUNT : DECODER_OPEN};
    struct decoder_answer a;
    struct buf answer = BUF_INIT;
    int rc = ask(d, &r, path, &a, &answer, e);
    if (rc == 0)
        *info = a.info;
    buf_free(&answer);
    return rc;
}

int decoder_still(struct decoder *d, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    struct decoder_request r = {.op = DECODER_STILL, .n = n};
    struct decoder_answer a;
    struct buf answer = BUF_INIT;
    int rc = ask(d, &r, path, &a, &answer, e);
    if (rc == 0)
        buf_append(jpeg, answer.data + sizeof(a), (size_t)a.payload_bytes);
    buf_free(&answer);
    return rc;
}
