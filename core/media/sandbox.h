/*
 * A process that can only compute: for code that reads untrusted media.
 *
 * Inside it every system call that is not on a short list kills the process: no files or sockets can be opened, nothing can be
 * executed, no other process can be touched; what remains is memory (bounded), processor time (bounded), threads, and the descriptors it
 * was given. Needs Linux with seccomp; where that is missing, entering fails and nothing runs unconfined.
 */
#ifndef CORE_MEDIA_SANDBOX_H
#define CORE_MEDIA_SANDBOX_H

#include <stdint.h>

#include "core/base/err.h"

struct sandbox_limits {
    int64_t memory_bytes; /* address space on top of what the process has */
    int64_t cpu_seconds;  /* of all its threads */
};

/* What libraries load on first use (time zone, character sets) is loaded now, since it cannot be later, and the filter is compiled.
 * Times become UTC: for processes that will be confined, or whose children will be. */
void sandbox_warm_up(void);
/* Confines the calling process for good. It must have one thread. ERR_UNSUPPORTED where the system cannot do it. */
int sandbox_enter(const struct sandbox_limits *limits, struct err *e);
/* Runs fn in a confined child and waits. *status is its wait status: killed by SIGSYS when it tried something forbidden. */
int sandbox_run(int (*fn)(void *arg), void *arg, const struct sandbox_limits *limits, int *status, struct err *e);

/* True in builds with sanitizers, whose runtimes need files and threads of their own: there only the resource limits that they can
 * live with are set. */
int sandbox_is_partial(void);

#endif
