/* Clips as the service looks at them: their facts, and single pictures. */
#include "server/decoder.h"

#include <sys/socket.h>
#include <unistd.h>

#include "server/redact.h"

int decoder_init(struct decoder *d, const struct clip_limits *limits, struct err *e)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return err_errno(e, "decoder socket");
    *d = (struct decoder){.request_fd = fd[0], .child_fd = fd[1], .limits = *limits, .stills = stills_new(limits)};
    clip_sandbox_use(fd[0]);
    return d->stills ? 0 : err_set(e, ERR_NOMEM, "no memory for the decoder");
}

void decoder_fini(struct decoder *d)
{
    if (d->request_fd > 0)
        close(d->request_fd);
    if (d->child_fd > 0)
        close(d->child_fd);
    stills_free(d->stills);
    *d = (struct decoder){.request_fd = -1, .child_fd = -1};
}

int decoder_probe(const struct decoder *d, const char *path, bool count, struct clip_info *info, struct err *e)
{
    struct clip *c = NULL;
    int rc = count ? clip_probe(path, &d->limits, info, e) : clip_open(path, &d->limits, &c, e);
    if (c)
        *info = *clip_info(c);
    clip_close(c);
    redact_path(e, path, "the clip");
    return rc;
}

int decoder_still(const struct decoder *d, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    int rc = stills_get(d->stills, path, n, jpeg, e);
    redact_path(e, path, "the clip");
    return rc;
}

void decoder_tidy(const struct decoder *d)
{
    stills_tidy(d->stills);
}
