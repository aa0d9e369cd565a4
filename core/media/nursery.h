/* The process that forks decoders; see remote.h. */
#ifndef CORE_MEDIA_NURSERY_H
#define CORE_MEDIA_NURSERY_H

#include "core/media/remote_wire.h"

/* Starts it if it does not run. Best called early, while the process is small and has one thread; clips start it otherwise. */
int nursery_start(struct err *e);
/* Has a child forked. fds: socket, memory, input when birth->has_input. Thread-safe. */
int nursery_fork(const struct remote_birth *birth, const int *fds, struct err *e);

#endif
