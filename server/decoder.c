/* Clips as the service looks at them: their facts, and single pictures. */
#include "server/decoder.h"

#include <sys/socket.h>
#include <unistd.h>

#include "core/media/image.h"
#include "server/redact.h"

#define STILL_QUALITY 90

int decoder_init(struct decoder *d, const struct clip_limits *limits, struct err *e)
{
    int fd[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fd) != 0)
        return err_errno(e, "decoder socket");
    *d = (struct decoder){.request_fd = fd[0], .child_fd = fd[1], .limits = *limits};
    clip_sandbox_use(fd[0]);
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

int decoder_still(const struct decoder *d, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    struct clip *c = NULL;
    int rc = clip_open(path, &d->limits, &c, e);
    if (rc == 0)
        rc = take_still(c, n, jpeg, e);
    clip_close(c);
    redact_path(e, path, "the clip");
    return rc;
}
