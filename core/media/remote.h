/*
 * Decoding in a sandboxed process. A small process (the "nursery") is forked once, early, while this one is small; it forks a child for
 * each clip. A child is confined by sandbox.h before it looks at the first byte; it gets the open file, a socket and shared memory. It
 * answers one call after the other; pictures come through the shared memory, two slots in turn, so that it decodes one picture while
 * the other is used.
 *
 * What a child says is as untrusted as the file: every number and string is checked here.
 */
#ifndef CORE_MEDIA_REMOTE_H
#define CORE_MEDIA_REMOTE_H

#include "core/media/clip_source.h"

struct remote;

/* A confined child. fd: the input, borrowed; -1 for a child that only decodes still images it is sent. */
int remote_open(int fd, const struct clip_limits *limits, struct remote **out, struct err *e);
void remote_close(struct remote *r); /* NULL is fine; the child ends */
/* One still image in an open file, to a frame from the pool. */
int remote_still(struct remote *r, int fd, struct source_env *env, struct frame **out, char codec[32], struct err *e);
/* The clip in the child's input as a source; takes the remote over, on failure too. */
int source_open_remote(struct remote *r, struct source_env *env, struct source **out, struct err *e);

#endif
