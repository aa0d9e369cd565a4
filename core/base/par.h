/* Parallel for over a persistent thread pool. One process-wide pool, sized once by par_init; used by kernels and
 * metrics. */
#ifndef CORE_BASE_PAR_H
#define CORE_BASE_PAR_H

#ifdef __cplusplus
extern "C" {
#endif

/* Sets the number of threads (>= 1, the caller's thread counts). Call from main before work starts; default is 1. */
void par_init(int threads);
int par_threads(void);
/* Calls fn(arg, i) for i in [0, n), each once, on any thread, dynamically scheduled; returns when all are done.
 * Nested and concurrent calls are legal: when the pool is taken the caller runs all of it itself. */
void par_for(int n, void (*fn)(void *arg, int i), void *arg);

#ifdef __cplusplus
}
#endif
#endif
