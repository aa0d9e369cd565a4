/*
 * Child processes of the service: workers and the decoder. Each is started by fork and exec of this binary, watched by a thread of
 * its own, and started again when it ends, after a pause that grows while it keeps failing early. Children end with the service,
 * however it ends.
 */
#ifndef SERVER_SUPERVISOR_H
#define SERVER_SUPERVISOR_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/hash.h"

struct supervisor;

#define CHILD_ARGS_MAX 48

struct child_spec {
    const char *role; /* "worker", "decoder": for the log */
    /* argv after the program, NULL-terminated; borrowed. "{id}" is replaced by the new process's id. */
    const char *args[CHILD_ARGS_MAX];
    int fd3; /* passed as descriptor 3; -1 none */
    int nice;
    /* The process `id` has ended (status as of waitpid). Called from the watching thread; may be NULL. */
    void (*ended)(void *arg, const char *id, int status);
    void *arg;
};

struct supervisor *supervisor_new(void); /* NULL when out of memory */
int supervisor_add(struct supervisor *s, const struct child_spec *spec, struct err *e);
/* Running children of a role. */
int supervisor_alive(struct supervisor *s, const char *role);
/* No child is started again from here on; children of the role get SIGTERM. */
void supervisor_terminate(struct supervisor *s, const char *role);
/* Waits until no child of the role runs; 0, or ERR_TIMEOUT. */
int supervisor_wait(struct supervisor *s, const char *role, int64_t timeout_ms);
/* Kills what is left and frees. NULL is fine. */
void supervisor_free(struct supervisor *s);
/* salient_process_* gauges of all children. */
void supervisor_metrics(struct supervisor *s, struct buf *out);
/* "exit 1", "signal 9 (Killed)" */
void supervisor_describe(int status, char *out, size_t size);

#endif
