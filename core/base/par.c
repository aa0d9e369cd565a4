/*
 * Parallel for. Threads sleep between jobs; one job runs at a time. A caller that finds the pool taken (a nested or
 * concurrent call) runs its whole loop itself, so there is no deadlock and no oversubscription.
 */
#include "core/base/par.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

#include "core/base/err.h"

#define PAR_MAX_THREADS 256

static struct {
    pthread_mutex_t owner; /* held by the call that uses the pool */
    pthread_mutex_t mu;
    pthread_cond_t wake, done;
    int workers; /* threads beside the caller */
    unsigned long generation;
    int busy;
    int n;
    atomic_int next;
    void (*fn)(void *, int);
    void *arg;
} pool = {
    .owner = PTHREAD_MUTEX_INITIALIZER,
    .mu = PTHREAD_MUTEX_INITIALIZER,
    .wake = PTHREAD_COND_INITIALIZER,
    .done = PTHREAD_COND_INITIALIZER,
};

static void drain(void)
{
    for (int i; (i = atomic_fetch_add(&pool.next, 1)) < pool.n;)
        pool.fn(pool.arg, i);
}

static void *worker(void *unused)
{
    (void)unused;
    unsigned long seen = 0;
    pthread_mutex_lock(&pool.mu);
    for (;;) {
        while (pool.generation == seen)
            pthread_cond_wait(&pool.wake, &pool.mu);
        seen = pool.generation;
        pthread_mutex_unlock(&pool.mu);
        drain();
        pthread_mutex_lock(&pool.mu);
        if (--pool.busy == 0)
            pthread_cond_signal(&pool.done);
    }
    return NULL;
}

void par_init(int threads)
{
    BUG_ON(threads < 1);
    if (threads > PAR_MAX_THREADS)
        threads = PAR_MAX_THREADS;
    pthread_mutex_lock(&pool.owner);
    while (pool.workers < threads - 1) {
        pthread_t t;
        if (pthread_create(&t, NULL, worker, NULL))
            break; /* fewer threads is slower, not wrong */
        pthread_detach(t);
        pool.workers++;
    }
    pthread_mutex_unlock(&pool.owner);
}

int par_threads(void)
{
    return pool.workers + 1;
}

void par_for(int n, void (*fn)(void *arg, int i), void *arg)
{
    if (n <= 1 || pool.workers == 0 || pthread_mutex_trylock(&pool.owner)) {
        for (int i = 0; i < n; i++)
            fn(arg, i);
        return;
    }
    pthread_mutex_lock(&pool.mu);
    pool.n = n;
    pool.fn = fn;
    pool.arg = arg;
    atomic_store(&pool.next, 0);
    pool.busy = pool.workers;
    pool.generation++;
    pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mu);
    drain();
    pthread_mutex_lock(&pool.mu);
    while (pool.busy)
        pthread_cond_wait(&pool.done, &pool.mu);
    pthread_mutex_unlock(&pool.mu);
    pthread_mutex_unlock(&pool.owner);
}
