/*
 * salient decoder: the process that forks for each file of untrusted media (server/decoder.h). It stays single-threaded and opens
 * nothing itself, so a fork is cheap and a child starts clean. Started by the supervisor with the request socket as descriptor 3.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/media/image.h"
#include "server/commands.h"
#include "server/decoder.h"
#include "server/decoder_wire.h"
#include "server/redact.h"

#define STILL_QUALITY 90

static int64_t address_space_now(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

static void limit(int resource, rlim_t value)
{
    struct rlimit r = {value, value};
    setrlimit((__rlimit_resource_t)resource, &r);
}

/*
 * What a child may use: bounded memory and time, no core, no new privileges; it dies with its parent. It does not read untrusted bytes
 * itself: clip_open does so in a confined process.
 */
static void confine(const struct decoder_request *r)
{
    int64_t ms = r->limits.max_decode_ms ? r->limits.max_decode_ms : clip_limits_default.max_decode_ms;
    unsigned seconds = (unsigned)((ms + DECODER_SLACK_MS + 999) / 1000);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_DUMPABLE, 0);
    limit(RLIMIT_AS, (rlim_t)(address_space_now() + r->memory_bytes));
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_CPU, seconds * 4);
    alarm(seconds);
}

static int take_still(struct clip *c, int64_t n, struct buf *jpeg, struct err *e)
{
    struct frame *f = NULL;
    int rc = clip_seek_frame(c, n, &f, e);
    if (rc < 0)
        return rc;
    rc = image_encode_jpeg(f, STILL_QUALITY, jpeg, e);
    frame_unref(f);
    return rc;
}

static int decode(const struct decoder_request *r, struct clip_info *info, struct buf *jpeg, struct err *e)
{
    if (r->op == DECODER_COUNT)
        return clip_probe(r->path, &r->limits, info, e);
    struct clip *c = NULL;
    int rc = clip_open(r->path, &r->limits, &c, e);
    if (rc < 0)
        return rc;
    *info = *clip_info(c);
    if (r->op == DECODER_STILL)
        rc = take_still(c, r->n, jpeg, e);
    clip_close(c);
    return rc < 0 ? rc : 0;
}

static void write_all(int fd, const void *data, size_t len)
{
    const char *p = data;
    while (len > 0) {
        ssize_t n = write(fd, p, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return;
        p += n;
        len -= (size_t)n;
    }
}

static void answer(const struct decoder_request *r, int fd)
{
    struct decoder_answer a = {0};
    struct buf jpeg = BUF_INIT;
    struct err e = {0};
    confine(r);
    a.rc = decode(r, &a.info, &jpeg, &e);
    if (a.rc == 0 && jpeg.failed)
        a.rc = err_set(&e, ERR_NOMEM, "no memory for the picture");
    redact_path(&e, r->path, "the clip");
    a.payload_bytes = a.rc == 0 ? (int64_t)jpeg.len : 0;
    snprintf(a.message, sizeof(a.message), "%.500s", e.msg);
    write_all(fd, &a, sizeof(a));
    write_all(fd, jpeg.data, (size_t)a.payload_bytes);
}

/* The next request and the descriptor for its answer. False when the service is gone. */
static bool receive(struct decoder_request *r, int *reply_fd)
{
    union {
        struct cmsghdr align;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec iov = {.iov_base = r, .iov_len = sizeof(*r)};
    struct msghdr m = {
        .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof(control)};
    ssize_t n = recvmsg(DECODER_FD, &m, MSG_CMSG_CLOEXEC);
    *reply_fd = -1;
    if (n == 0 || (n < 0 && errno != EINTR))
        return false;
    struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
    if (c && c->cmsg_type == SCM_RIGHTS)
        memcpy(reply_fd, CMSG_DATA(c), sizeof(int));
    if (n != (ssize_t)sizeof(*r) && *reply_fd >= 0) {
        close(*reply_fd);
        *reply_fd = -1;
    }
    return true;
}

int cmd_decoder(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct decoder_request r;
    int fd;
    if (fcntl(DECODER_FD, F_GETFD) < 0) {
        fputs("salient decoder: started by `salient serve`, not by hand\n", stderr);
        return 1;
    }
    struct err e = {0};
    if (clip_sandbox_start(&e) < 0)
        fprintf(stderr, "salient decoder: %s\n", e.msg); /* and each request will say so */
    signal(SIGCHLD, SIG_IGN);                            /* children are reaped by the kernel */
    signal(SIGPIPE, SIG_DFL);                            /* a child whose asker gave up ends at its next write */
    while (receive(&r, &fd)) {
        if (fd < 0)
            continue;
        if (fork() == 0) {
            answer(&r, fd);
            _exit(0);
        }
        close(fd); /* without a child, too, the asker sees the end */
    }
    return 0;
}
