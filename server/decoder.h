/*
 * Untrusted media in the service. What reads its bytes are confined processes, one for each clip, forked by a small process of its own
 * (`salient decoder`, started and restarted by the supervisor): the service itself has threads and must not fork such children. A
 * decoder that crashes, hangs or asks for too much memory costs one request its answer.
 */
#ifndef SERVER_DECODER_H
#define SERVER_DECODER_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/media/clip.h"
#include "server/stills.h"

#define DECODER_FD 3 /* the forking process's end of the request socket */

struct decoder { /* the service's side */
    int request_fd, child_fd;
    struct clip_limits limits;
    struct stills *stills;
};

/* Once per process: every clip it opens from here on is decoded there, unless it says otherwise. */
int decoder_init(struct decoder *d, const struct clip_limits *limits, struct err *e);
void decoder_fini(struct decoder *d);
/* Thread-safe. Errors as clip_open, naming "the clip". count: every picture is decoded, so that info->frames is exact. */
int decoder_probe(const struct decoder *d, const char *path, bool count, struct clip_info *info, struct err *e);
int decoder_still(const struct decoder *d, const char *path, int64_t n, struct buf *jpeg, struct err *e);
void decoder_tidy(const struct decoder *d); /* stills_tidy */

#endif
