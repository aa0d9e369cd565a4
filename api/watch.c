/*
 * One thread asks the store what is new, once per change and watched job, and appends the events, formatted, to the buffers of
 * that job's watchers. A watcher's `seq` moves only when an event was appended: a client too slow to read gets no more than
 * PENDING_MAX bytes held for it and catches up from the store later. The lock is never held across a query.
 */
#include "api/watch.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define PENDING_MAX ((size_t)128 << 10)
#define BATCH 256
#define TICK_MS 500

struct watcher {
    struct watch *watch;
    struct watcher *next, **link;
    struct http_request *req;
    char job_id[ID_SIZE];
    int64_t seq;
    bool stream;     /* wants the events themselves, not only the end */
    bool dirty;      /* may be behind: ask whether or not the store changed */
    bool done;       /* nothing more will come */
    int64_t wake_ms; /* stream: when to ping; else: the deadline */
    struct buf pending;
};

struct watch {
    struct store *store;
    pthread_mutex_t lock;
    struct watcher *first;
    int n, max;
    bool draining, stopping;
    pthread_t thread;
};

/* A job that some watcher asks about, with the lowest event number among its watchers. */
struct question {
    char job_id[ID_SIZE];
    int64_t after;
};

static bool event_is_final(const struct job_event *ev)
{
    if (strcmp(ev->type, "state") != 0)
        return false;
    json_t *data = json_loads(ev->data, 0, NULL);
    const char *state = json_string_value(json_object_get(data, "state"));
    bool final = state && job_state_final(state);
    json_decref(data);
    return final;
}

static void wake(struct watcher *r)
{
    http_wake(r->req);
}

static void deliver_one(struct watcher *r, const struct job_event *ev, bool final)
{
    if (r->stream)
        buf_printf(&r->pending, "id: %lld\nevent: %s\ndata: %s\n\n", (long long)ev->seq, ev->type, ev->data);
    r->seq = ev->seq;
    r->done |= final;
    r->wake_ms = r->stream ? clock_mono_ms() + WATCH_PING_MS : r->wake_ms;
}

static void deliver(struct watch *w, const char *job_id, const struct event_list *events, bool more)
{
    size_t final = 0;
    while (final < events->n && !event_is_final(&events->items[final]))
        final++;
    pthread_mutex_lock(&w->lock);
    for (struct watcher *r = w->first; r; r = r->next) {
        if (strcmp(r->job_id, job_id) != 0)
            continue;
        int64_t before = r->seq;
        r->dirty = more;
        for (size_t i = 0; i < events->n && !r->done; i++) {
            if (events->items[i].seq <= r->seq)
                continue;
            if (r->pending.len >= PENDING_MAX) {
                r->dirty = true;
                break;
            }
            deliver_one(r, &events->items[i], i == final);
        }
        if (r->done || (r->stream && r->seq != before))
            wake(r);
    }
    pthread_mutex_unlock(&w->lock);
}

static void end_watchers_of(struct watch *w, const char *job_id)
{
    pthread_mutex_lock(&w->lock);
    for (struct watcher *r = w->first; r; r = r->next)
        if (strcmp(r->job_id, job_id) == 0) {
            r->done = true;
            wake(r);
        }
    pthread_mutex_unlock(&w->lock);
}

/* The distinct jobs to ask about, as an array for free(); all of them when the store changed, else those that may be behind. */
static struct question *collect(struct watch *w, bool changed, size_t *n)
{
    pthread_mutex_lock(&w->lock);
    struct question *q = w->n ? calloc((size_t)w->n, sizeof(*q)) : NULL;
    *n = 0;
    for (struct watcher *r = w->first; q && r; r = r->next) {
        if (r->done || !(changed || r->dirty) || r->pending.len >= PENDING_MAX)
            continue;
        size_t i = 0;
        while (i < *n && strcmp(q[i].job_id, r->job_id) != 0)
            i++;
        if (i == *n) {
            memcpy(q[i].job_id, r->job_id, sizeof(r->job_id));
            q[(*n)++].after = r->seq;
        } else if (r->seq < q[i].after) {
            q[i].after = r->seq;
        }
    }
    pthread_mutex_unlock(&w->lock);
    return q;
}

static void ask(struct watch *w, const struct question *q)
{
    struct event_list events = {0};
    struct err e = {0};
    if (job_events(w->store, q->job_id, q->after, BATCH, &events, &e) < 0)
        log_warn(LOG_MSG("cannot read events"), LOG_STR("job", q->job_id), LOG_STR("error", e.msg));
    else
        deliver(w, q->job_id, &events, events.n == BATCH);
    event_list_fini(&events);
}

/* Pings quiet streams and ends waits that are over. *quiet gets the jobs of pinged streams, to see whether they still exist. */
static struct question *tick(struct watch *w, size_t *n)
{
    int64_t now = clock_mono_ms();
    pthread_mutex_lock(&w->lock);
    struct question *quiet = w->n ? calloc((size_t)w->n, sizeof(*quiet)) : NULL;
    *n = 0;
    for (struct watcher *r = w->first; r; r = r->next) {
        if (r->done || now < r->wake_ms)
            continue;
        if (r->stream) {
            buf_puts(&r->pending, ": ping\n\n");
            r->wake_ms = now + WATCH_PING_MS;
            if (quiet)
                memcpy(quiet[(*n)++].job_id, r->job_id, sizeof(r->job_id));
        } else {
            r->done = true;
        }
        wake(r);
    }
    pthread_mutex_unlock(&w->lock);
    return quiet;
}

static void end_deleted(struct watch *w, const struct question *quiet, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct job job = {0};
        if (job_get(w->store, quiet[i].job_id, &job, NULL) == ERR_NOTFOUND)
            end_watchers_of(w, quiet[i].job_id);
        job_fini(&job);
    }
}

static void *watch_main(void *arg)
{
    struct watch *w = arg;
    for (;;) {
        struct err e = {0};
        int changed = store_wait(w->store, STORE_TOPIC_EVENTS, TICK_MS, &e);
        pthread_mutex_lock(&w->lock);
        bool stopping = w->stopping;
        pthread_mutex_unlock(&w->lock);
        if (stopping)
            return NULL;
        if (changed < 0) {
            log_warn(LOG_MSG("cannot wait for events"), LOG_STR("error", e.msg));
            clock_sleep_ms(TICK_MS);
        }
        size_t n = 0;
        struct question *q = collect(w, changed != 0, &n);
        for (size_t i = 0; i < n; i++)
            ask(w, &q[i]);
        free(q);
        q = tick(w, &n);
        end_deleted(w, q, n);
        free(q);
    }
}

int watch_new(struct store *store, int max_watchers, struct watch **out, struct err *e)
{
    struct watch *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "no memory to watch jobs");
    w->store = store;
    w->max = max_watchers;
    pthread_mutex_init(&w->lock, NULL);
    if (pthread_create(&w->thread, NULL, watch_main, w) != 0) {
        pthread_mutex_destroy(&w->lock);
        free(w);
        return err_set(e, ERR_NOMEM, "cannot start the thread that watches jobs");
    }
    *out = w;
    return 0;
}

void watch_drain(struct watch *w)
{
    pthread_mutex_lock(&w->lock);
    w->draining = true;
    for (struct watcher *r = w->first; r; r = r->next) {
        r->done = true;
        wake(r);
    }
    pthread_mutex_unlock(&w->lock);
}

void watch_free(struct watch *w)
{
    if (!w)
        return;
    pthread_mutex_lock(&w->lock);
    BUG_ON(w->first);
    w->stopping = true;
    pthread_mutex_unlock(&w->lock);
    store_wake(w->store);
    pthread_join(w->thread, NULL);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static int subscribe(struct watch *w, struct watcher *r, struct watcher **out, struct err *e)
{
    r->watch = w;
    r->dirty = true;
    pthread_mutex_lock(&w->lock);
    bool full = w->n >= w->max;
    if (!full) {
        w->n++;
        r->done = w->draining;
        r->next = w->first;
        if (r->next)
            r->next->link = &r->next;
        r->link = &w->first;
        w->first = r;
    }
    pthread_mutex_unlock(&w->lock);
    if (full) {
        free(r);
        return err_set(e, ERR_BUSY, "too many clients follow jobs");
    }
    *out = r;
    store_wake(w->store);
    return 0;
}

static struct watcher *watcher_new(struct http_request *req, const char *job_id, struct err *e)
{
    struct watcher *r = calloc(1, sizeof(*r));
    if (!r) {
        err_set(e, ERR_NOMEM, "no memory to watch a job");
        return NULL;
    }
    r->req = req;
    memcpy(r->job_id, job_id, strnlen(job_id, ID_SIZE - 1));
    return r;
}

int watch_stream(struct watch *w, struct http_request *req, const char *job_id, int64_t after, struct watcher **out,
                 struct err *e)
{
    struct watcher *r = watcher_new(req, job_id, e);
    if (!r)
        return ERR_NOMEM;
    r->stream = true;
    r->seq = after;
    r->wake_ms = clock_mono_ms() + WATCH_PING_MS;
    buf_puts(&r->pending, "retry: 2000\n\n");
    return subscribe(w, r, out, e);
}

int watch_final(struct watch *w, struct http_request *req, const char *job_id, int64_t deadline_ms,
                struct watcher **out, struct err *e)
{
    struct watcher *r = watcher_new(req, job_id, e);
    if (!r)
        return ERR_NOMEM;
    r->wake_ms = deadline_ms;
    return subscribe(w, r, out, e);
}

bool watch_is_done(struct watcher *r)
{
    pthread_mutex_lock(&r->watch->lock);
    bool done = r->done;
    pthread_mutex_unlock(&r->watch->lock);
    return done;
}

ssize_t watch_read(void *watcher, int64_t pos, char *out, size_t cap)
{
    (void)pos;
    struct watcher *r = watcher;
    pthread_mutex_lock(&r->watch->lock);
    size_t n = r->pending.len < cap ? r->pending.len : cap;
    ssize_t rc = (ssize_t)n;
    if (n > 0) {
        memcpy(out, r->pending.data, n);
        memmove(r->pending.data, r->pending.data + n, r->pending.len - n);
        r->pending.len -= n;
    } else if (r->pending.failed) {
        rc = HTTP_STREAM_BROKEN;
    } else {
        rc = r->done ? HTTP_STREAM_END : HTTP_STREAM_WAIT;
    }
    pthread_mutex_unlock(&r->watch->lock);
    return rc;
}

void watch_drop(void *watcher)
{
    struct watcher *r = watcher;
    if (!r)
        return;
    struct watch *w = r->watch;
    pthread_mutex_lock(&w->lock);
    *r->link = r->next;
    if (r->next)
        r->next->link = r->link;
    w->n--;
    pthread_mutex_unlock(&w->lock);
    buf_free(&r->pending);
    free(r);
}
