/* Counters are plain atomics in one array per route, so counting a request takes no lock. */
#include "api/metrics.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double bucket_s[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
#define BUCKETS (sizeof(bucket_s) / sizeof(bucket_s[0]))

static const int statuses[] = {
#define STATUS(code, text) code,
#include "api/status.def"
#undef STATUS
};
#define STATUSES (sizeof(statuses) / sizeof(statuses[0]))

struct route_counters {
    atomic_ullong requests[STATUSES];
    atomic_ullong bucket[BUCKETS + 1]; /* the last is +Inf */
    atomic_ullong sum_us, in_bytes, out_bytes;
};

struct metrics {
    size_t n; /* routes, then one for requests that matched none */
    struct route_counters route[];
};

struct metrics *metrics_new(void)
{
    struct metrics *m = calloc(1, sizeof(*m) + (nroutes + 1) * sizeof(m->route[0]));
    if (m)
        m->n = nroutes + 1;
    return m;
}

void metrics_free(struct metrics *m)
{
    free(m);
}

static void add(atomic_ullong *counter, int64_t n)
{
    atomic_fetch_add_explicit(counter, (unsigned long long)(n > 0 ? n : 0), memory_order_relaxed);
}

void metrics_request(struct metrics *m, const struct route *route, int status, int64_t duration_us, int64_t in_bytes,
                     int64_t out_bytes)
{
    struct route_counters *c = &m->route[route ? (size_t)(route - routes) : nroutes];
    for (size_t i = 0; i < STATUSES; i++)
        if (statuses[i] == status)
            add(&c->requests[i], 1);
    size_t b = 0;
    while (b < BUCKETS && (double)duration_us > bucket_s[b] * 1e6)
        b++;
    add(&c->bucket[b], 1);
    add(&c->sum_us, duration_us);
    add(&c->in_bytes, in_bytes);
    add(&c->out_bytes, out_bytes);
}

static unsigned long long get(const atomic_ullong *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static void write_head(struct buf *out, const char *name, const char *type, const char *help)
{
    buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* {method="GET",route="/v1/jobs/{id}" */
static void write_labels(struct buf *out, size_t i)
{
    const struct route *r = i < nroutes ? &routes[i] : NULL;
    buf_printf(out, "{method=\"%s\",route=\"%s\"", r ? http_method_name(r->method) : "", r ? r->pattern : "");
}

static void write_counts(struct metrics *m, struct buf *out)
{
    write_head(out, "salient_http_requests_total", "counter", "Requests answered, by route and status.");
    for (size_t i = 0; i < m->n; i++)
        for (size_t s = 0; s < STATUSES; s++) {
            unsigned long long n = get(&m->route[i].requests[s]);
            if (n == 0)
                continue;
            buf_puts(out, "salient_http_requests_total");
            write_labels(out, i);
            buf_printf(out, ",status=\"%d\"} %llu\n", statuses[s], n);
        }
}

static void write_latency(struct metrics *m, struct buf *out)
{
    static const char name[] = "salient_http_request_duration_seconds";
    write_head(out, name, "histogram", "Time from the request's headers to the end of its answer.");
    for (size_t i = 0; i < m->n; i++) {
        unsigned long long total = 0;
        for (size_t b = 0; b <= BUCKETS; b++)
            total += get(&m->route[i].bucket[b]);
        if (total == 0)
            continue;
        unsigned long long cumulative = 0;
        for (size_t b = 0; b <= BUCKETS; b++) {
            cumulative += get(&m->route[i].bucket[b]);
            buf_printf(out, "%s_bucket", name);
            write_labels(out, i);
            if (b < BUCKETS)
                buf_printf(out, ",le=\"%g\"} %llu\n", bucket_s[b], cumulative);
            else
                buf_printf(out, ",le=\"+Inf\"} %llu\n", cumulative);
        }
        buf_printf(out, "%s_sum", name);
        write_labels(out, i);
        buf_printf(out, "} %.6f\n%s_count", (double)get(&m->route[i].sum_us) / 1e6, name);
        write_labels(out, i);
        buf_printf(out, "} %llu\n", cumulative);
    }
}

static void write_bytes(struct metrics *m, struct buf *out)
{
    unsigned long long in = 0, sent = 0;
    for (size_t i = 0; i < m->n; i++) {
        in += get(&m->route[i].in_bytes);
        sent += get(&m->route[i].out_bytes);
    }
    write_head(out, "salient_http_request_bytes_total", "counter", "Bytes of request bodies received.");
    buf_printf(out, "salient_http_request_bytes_total %llu\n", in);
    write_head(out, "salient_http_response_bytes_total", "counter", "Bytes of response bodies of completed answers.");
    buf_printf(out, "salient_http_response_bytes_total %llu\n", sent);
}

void metrics_gauge(struct buf *out, const char *name, const char *help, double value)
{
    write_head(out, name, "gauge", help);
    buf_printf(out, "%s %.15g\n", name, value);
}

void metrics_counter(struct buf *out, const char *name, const char *help, double value)
{
    write_head(out, name, "counter", help);
    buf_printf(out, "%s %.15g\n", name, value);
}

void metrics_write(struct metrics *m, struct buf *out)
{
    write_counts(m, out);
    write_latency(m, out);
    write_bytes(m, out);
}
