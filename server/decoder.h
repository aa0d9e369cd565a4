/*
 * Untrusted media is opened in processes of their own. One small process (`salient decoder`, started by the supervisor) waits for
 * requests and forks a child for each, which takes limits upon itself, decodes, answers through a pipe and ends. A child that
 * crashes, hangs or asks for too much memory costs one request its answer.
 */
#ifndef SERVER_DECODER_H
#define SERVER_DECODER_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/media/clip.h"

#define DECODER_FD 3 /* the decoder's end of the request socket */

struct decoder { /* the service's side */
    int request_fd, child_fd;
    struct clip_limits limits;
    int64_t memory_bytes; /* address space of one child beyond what the decoder has */
};

int decoder_init(struct decoder *d, const struct clip_limits *limits, struct err *e);
void decoder_fini(struct decoder *d);
/* Thread-safe. Errors as clip_open; ERR_CORRUPT when the child died on the file, ERR_TIMEOUT when it had to be given up. */
int decoder_probe(struct decoder *d, const char *path, bool count, struct clip_info *info, struct err *e);
int decoder_still(struct decoder *d, const char *path, int64_t n, struct buf *jpeg, struct err *e);

#endif
