/*
 * Watches jobs for clients: one thread follows the store's events and hands them to event streams (as text ready to send) and to
 * requests that wait for a job to finish. A watcher costs some memory and no thread.
 */
#ifndef API_WATCH_H
#define API_WATCH_H

#include "api/http.h"
#include "core/store/store.h"

struct watch;
struct watcher;

#define WATCH_PING_MS 15000

int watch_new(struct store *store, int max_watchers, struct watch **out, struct err *e);
void watch_free(struct watch *w); /* NULL is fine; no watcher may be left */
/* Ends every watcher, now and later. */
void watch_drain(struct watch *w);

/* Follows a job's events after number `after`; the stream ends with the job. ERR_BUSY: too many watchers. */
int watch_stream(struct watch *w, struct http_request *req, const char *job_id, int64_t after, struct watcher **out,
                 struct err *e);
/* Wakes req when the job reached a final state, the time is over (monotonic), or the service drains. */
int watch_final(struct watch *w, struct http_request *req, const char *job_id, int64_t deadline_ms,
                struct watcher **out, struct err *e);
bool watch_is_done(struct watcher *r);
/* The http_stream functions of a watch_stream watcher. */
ssize_t watch_read(void *watcher, int64_t pos, char *out, size_t cap);
void watch_drop(void *watcher); /* unsubscribes and frees; NULL is fine */

#endif
