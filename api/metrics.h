/* Prometheus metrics of this process: requests by route and status with latency, plus gauges read when scraped. */
#ifndef API_METRICS_H
#define API_METRICS_H

#include "api/route.h"

struct metrics;

struct metrics *metrics_new(void); /* NULL when out of memory */
void metrics_free(struct metrics *m);
/* route may be NULL (nothing matched). */
void metrics_request(struct metrics *m, const struct route *route, int status, int64_t duration_us, int64_t in_bytes,
                     int64_t out_bytes);
/* Text exposition format 0.0.4. */
void metrics_write(struct metrics *m, struct buf *out);
/* One gauge line with its HELP and TYPE. */
void metrics_gauge(struct buf *out, const char *name, const char *help, double value);
void metrics_counter(struct buf *out, const char *name, const char *help, double value);

#endif
