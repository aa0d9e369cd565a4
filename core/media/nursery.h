/* The process that forks decoders; see remote.h. */
#ifndef CORE_MEDIA_NURSERY_H
#define CORE_MEDIA_NURSERY_H

#include "core/media/remote_wire.h"

/* Starts it if it does not run. Best called early, while the process is small and has one thread; clips start it otherwise. */
int nursery_start(struct err *e);
/* Uses one that another process runs with nursery_serve and keeps running; requests is this end of their SOCK_SEQPACKET pair. */
void nursery_use(int requests);
/* Is the nursery, until the other end of `requests` is closed everywhere. The process must have one thread. */
_Noreturn void nursery_serve(int requests);
/* Has a child forked. fds: socket, and input when birth->has_input. Thread-safe. */
int nursery_fork(const struct remote_birth *birth, const int *fds, struct err *e);

#endif
