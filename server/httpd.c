/*
 * HTTP over libmicrohttpd 0.9.75. A few epoll threads move bytes; a handler that may block runs on the handler pool
 * while its connection is suspended, so no slow disk, database or decoder ever holds up other connections. Requests that
 * decode what a client sent have a queue of their own and never get every thread of the pool. Waiting requests and event
 * streams cost a suspended connection and no thread.
 *
 * A connection's `state` changes under its lock. MHD calls us for one connection from one thread at a time, and not at
 * all while it is suspended; the pool owns it in CONN_HANDLING, nobody in the PARKED states, until a wake.
 *
 * Early refusals: a client that still sends is read to the end (up to DRAIN_BYTES) before it is answered, because
 * closing a socket with unread data would destroy the answer on its way.
 */
#include "server/httpd.h"

#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"
#include "server/listen.h"

#define DRAIN_BYTES ((int64_t)64 << 20)
#define CONNECTION_MEMORY ((size_t)64 << 10) /* headers must fit; also the receive buffer */
#define STREAM_BLOCK ((size_t)64 << 10)
#define MAX_HANDLERS 64

enum conn_state {
    CONN_READING,       /* headers or body */
    CONN_HANDLING,      /* suspended; queued for or on a handler thread */
    CONN_PARKED,        /* suspended; the handler said HTTP_LATER */
    CONN_READY,         /* the response is made */
    CONN_SENDING,       /* MHD sends it */
    CONN_STREAM_PARKED, /* suspended; the stream said HTTP_STREAM_WAIT */
};

struct conn {
    struct http_request req; /* first: a request pointer is a conn pointer */
    struct http_response resp;
    struct httpd *httpd;
    struct MHD_Connection *mhd;
    pthread_mutex_t lock;
    enum conn_state state;
    bool woken; /* a wake came while nobody was parked */
    bool begun;
    int64_t drained, sent;
    struct conn *next; /* in the handler queue */
    char peer[PEER_NAME_SIZE];
    char uri[];
};

struct conn_queue {
    struct conn *head, **tail;
};

struct httpd {
    struct MHD_Daemon *daemon;
    struct api *api;
    char url[128];
    atomic_int active;
    /* the handler pool */
    pthread_mutex_t lock;
    pthread_cond_t more;
    struct conn_queue quick, slow;
    int slow_running, slow_max; /* threads on slow requests */
    bool stopping;
    pthread_t thread[MAX_HANDLERS];
    int nthreads;
};

static const char *conn_header(const struct http_request *req, const char *name)
{
    const struct conn *c = (const struct conn *)(const void *)req;
    return MHD_lookup_connection_value(c->mhd, MHD_HEADER_KIND, name);
}

static void enqueue(struct conn *c)
{
    struct httpd *h = c->httpd;
    struct conn_queue *q = api_is_slow(&c->req) ? &h->slow : &h->quick;
    pthread_mutex_lock(&h->lock);
    c->next = NULL;
    *q->tail = c;
    q->tail = &c->next;
    pthread_cond_signal(&h->more);
    pthread_mutex_unlock(&h->lock);
}

static struct conn *dequeue(struct conn_queue *q)
{
    struct conn *c = q->head;
    if (!c)
        return NULL;
    q->head = c->next;
    if (!q->head)
        q->tail = &q->head;
    return c;
}

/* With the lock held. */
static struct conn *next_request(struct httpd *h, bool *slow)
{
    struct conn *c = dequeue(&h->quick);
    *slow = !c && h->slow_running < h->slow_max;
    return *slow ? dequeue(&h->slow) : c;
}

static void conn_wake(struct http_request *req)
{
    struct conn *c = (struct conn *)(void *)req;
    pthread_mutex_lock(&c->lock);
    if (c->state == CONN_PARKED) {
        c->state = CONN_HANDLING;
        enqueue(c);
    } else if (c->state == CONN_STREAM_PARKED) {
        c->state = CONN_SENDING;
        MHD_resume_connection(c->mhd);
    } else {
        c->woken = true;
    }
    pthread_mutex_unlock(&c->lock);
}

static const struct http_conn_ops conn_ops = {.header = conn_header, .wake = conn_wake};

/* ---- handler pool --------------------------------------------------------------------------------------------------
 */

static void handle(struct conn *c)
{
    for (;;) {
        int rc = api_run(&c->req, &c->resp);
        pthread_mutex_lock(&c->lock);
        bool again = rc == HTTP_LATER && c->woken;
        c->woken = false;
        if (!again)
            c->state = rc == HTTP_LATER ? CONN_PARKED : CONN_READY;
        pthread_mutex_unlock(&c->lock);
        if (again)
            continue;
        /* Once parked, a wake may hand the connection to another thread: it is not ours to touch any more. */
        if (rc != HTTP_LATER)
            MHD_resume_connection(c->mhd);
        return;
    }
}

static void *handler_main(void *arg)
{
    struct httpd *h = arg;
    pthread_mutex_lock(&h->lock);
    for (;;) {
        bool slow;
        struct conn *c = next_request(h, &slow);
        if (!c && h->stopping)
            break; /* slow ones that still wait have a thread on their kind, which takes them next */
        if (!c) {
            pthread_cond_wait(&h->more, &h->lock);
            continue;
        }
        h->slow_running += slow;
        pthread_mutex_unlock(&h->lock);
        handle(c);
        pthread_mutex_lock(&h->lock);
        h->slow_running -= slow;
    }
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

/* ---- answers -------------------------------------------------------------------------------------------------------
 */

static ssize_t read_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
    struct conn *c = cls;
    for (;;) {
        ssize_t n = c->resp.body.stream.read(c->resp.body.stream.arg, (int64_t)pos, buf, max);
        if (n > 0) {
            c->sent += n;
            return n;
        }
        if (n == HTTP_STREAM_END)
            return MHD_CONTENT_READER_END_OF_STREAM;
        if (n != HTTP_STREAM_WAIT)
            return MHD_CONTENT_READER_END_WITH_ERROR;
        pthread_mutex_lock(&c->lock);
        bool again = c->woken;
        c->woken = false;
        if (!again) {
            c->state = CONN_STREAM_PARKED;
            MHD_suspend_connection(c->mhd);
        }
        pthread_mutex_unlock(&c->lock);
        if (!again)
            return 0;
    }
}

static struct MHD_Response *make_response(struct conn *c)
{
    struct http_response *r = &c->resp;
    struct MHD_Response *m;
    switch (r->kind) {
    case HTTP_BODY_MEMORY:
        return MHD_create_response_from_buffer(r->body.memory.len, r->body.memory.data, MHD_RESPMEM_PERSISTENT);
    case HTTP_BODY_STATIC:
        return MHD_create_response_from_buffer(r->body.fixed.len, (void *)(uintptr_t)r->body.fixed.data,
                                               MHD_RESPMEM_PERSISTENT);
    case HTTP_BODY_FILE:
        m = MHD_create_response_from_fd_at_offset64((uint64_t)r->body.file.len, r->body.file.fd,
                                                    (uint64_t)r->body.file.offset);
        if (m)
            r->kind = HTTP_BODY_NONE; /* MHD closes the descriptor */
        return m;
    case HTTP_BODY_STREAM:
        return MHD_create_response_from_callback(r->body.stream.len < 0 ? MHD_SIZE_UNKNOWN
                                                                        : (uint64_t)r->body.stream.len,
                                                 STREAM_BLOCK, read_stream, c, NULL);
    case HTTP_BODY_NONE:
        break;
    }
    return MHD_create_response_from_buffer(0, (void *)(uintptr_t) "", MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_response(struct conn *c)
{
    int64_t len = http_response_len(&c->resp);
    struct MHD_Response *m = make_response(c);
    if (!m)
        return MHD_NO;
    for (size_t i = 0; i < c->resp.nheaders; i++)
        MHD_add_response_header(m, c->resp.header[i].name, c->resp.header[i].value);
    if (len > 0 && c->req.method != HTTP_HEAD && c->resp.kind != HTTP_BODY_STREAM)
        c->sent = len;
    pthread_mutex_lock(&c->lock);
    c->state = CONN_SENDING;
    pthread_mutex_unlock(&c->lock);
    enum MHD_Result rc = MHD_queue_response(c->mhd, (unsigned)c->resp.status, m);
    MHD_destroy_response(m);
    return rc;
}

/* ---- libmicrohttpd's callbacks -------------------------------------------------------------------------------------
 */

static void *on_uri(void *cls, const char *uri, struct MHD_Connection *mhd)
{
    struct httpd *h = cls;
    size_t len = strlen(uri);
    struct conn *c = calloc(1, sizeof(*c) + len + 1);
    if (!c)
        return NULL;
    memcpy(c->uri, uri, len + 1);
    c->httpd = h;
    c->mhd = mhd;
    c->req.ops = &conn_ops;
    c->req.uri = c->uri;
    c->req.peer = c->peer;
    pthread_mutex_init(&c->lock, NULL);
    atomic_fetch_add(&h->active, 1);
    return c;
}

static int64_t declared_length(struct conn *c)
{
    if (conn_header(&c->req, "Transfer-Encoding"))
        return -1;
    const char *text = conn_header(&c->req, "Content-Length");
    return text ? strtoll(text, NULL, 10) : 0; /* MHD has refused malformed ones */
}

static enum MHD_Result begin(struct conn *c, const char *method)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(c->mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    if (info && info->client_addr)
        c->req.loopback = peer_name(info->client_addr, c->peer);
    c->req.method = http_method_parse(method);
    c->req.content_length = declared_length(c);
    c->begun = true;
    if (api_begin(c->httpd->api, &c->req, &c->resp) == API_BODY)
        return MHD_YES;
    /* Refused, and the client has sent nothing of the body yet or too much is to come: answer at once and close. */
    const char *expect = conn_header(&c->req, "Expect");
    if (c->req.content_length > DRAIN_BYTES || (expect && c->req.content_length != 0))
        return send_response(c);
    return MHD_YES;
}

static enum MHD_Result take_data(struct conn *c, const char *data, size_t *size)
{
    api_data(&c->req, &c->resp, data, *size);
    if (c->resp.status != 0 && (c->drained += (int64_t)*size) > DRAIN_BYTES)
        return MHD_NO;
    *size = 0;
    return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **con_cls)
{
    (void)cls, (void)mhd, (void)url, (void)version;
    struct conn *c = *con_cls;
    if (!c)
        return MHD_NO;
    if (!c->begun)
        return begin(c, method);
    if (*size > 0)
        return take_data(c, data, size);
    if (c->state == CONN_READY || c->resp.status != 0)
        return send_response(c);
    if (api_is_inline(&c->req, &c->resp)) {
        BUG_ON(api_run(&c->req, &c->resp) != 0);
        return send_response(c);
    }
    c->state = CONN_HANDLING;
    MHD_suspend_connection(mhd);
    enqueue(c);
    return MHD_YES;
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls, enum MHD_RequestTerminationCode code)
{
    (void)mhd;
    struct httpd *h = cls;
    struct conn *c = *con_cls;
    if (!c)
        return;
    *con_cls = NULL;
    if (c->begun)
        api_end(&c->req, &c->resp, c->sent, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    pthread_mutex_destroy(&c->lock);
    free(c);
    atomic_fetch_sub(&h->active, 1);
}

static void on_log(void *cls, const char *fmt, va_list ap)
{
    (void)cls;
    char line[512];
    vsnprintf(line, sizeof(line), fmt, ap);
    line[strcspn(line, "\n")] = '\0';
    log_debug(LOG_MSG("microhttpd"), LOG_STR("detail", line));
}

/* ---- lifecycle -----------------------------------------------------------------------------------------------------
 */

static int start_daemon(struct httpd *h, const struct httpd_opts *o, int fd, struct err *e)
{
    h->daemon = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG, 0, NULL, NULL, on_request, h,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned)o->loops, MHD_OPTION_CONNECTION_LIMIT, (unsigned)o->max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
        (unsigned)o->idle_timeout_s, MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_URI_LOG_CALLBACK,
        on_uri, h, MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
    return h->daemon ? 0 : err_set(e, ERR_IO, "the HTTP server does not start");
}

static int start_handlers(struct httpd *h, int n, struct err *e)
{
    for (int i = 0; i < n && i < MAX_HANDLERS; i++) {
        if (pthread_create(&h->thread[i], NULL, handler_main, h) != 0)
            return err_set(e, ERR_NOMEM, "cannot start handler thread %d", i);
        h->nthreads++;
    }
    return 0;
}

static void make_url(struct httpd *h, const char *listen_text, int fd)
{
    size_t host = (size_t)(strrchr(listen_text, ':') - listen_text);
    snprintf(h->url, sizeof(h->url), "http://%.*s:%d", (int)(host < 100 ? host : 100), listen_text, listen_port(fd));
}

int httpd_start(const struct httpd_opts *opts, struct httpd **out, struct err *e)
{
    int fd = -1;
    int rc = listen_open(opts->listen, &fd, e);
    if (rc < 0)
        return rc;
    struct httpd *h = calloc(1, sizeof(*h));
    if (!h) {
        close(fd);
        return err_set(e, ERR_NOMEM, "no memory for the HTTP server");
    }
    h->api = opts->api;
    h->quick.tail = &h->quick.head;
    h->slow.tail = &h->slow.head;
    h->slow_max = opts->handlers > 3 ? opts->handlers * 3 / 4 : 1;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->more, NULL);
    make_url(h, opts->listen, fd);
    rc = start_handlers(h, opts->handlers, e);
    if (rc == 0)
        rc = start_daemon(h, opts, fd, e);
    if (rc < 0) {
        close(fd);
        httpd_stop(h);
        return rc;
    }
    *out = h;
    return 0;
}

const char *httpd_url(const struct httpd *h)
{
    return h->url;
}

int httpd_connections(const struct httpd *h)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
    return info ? (int)info->num_connections : 0;
}

int httpd_active(const struct httpd *h)
{
    return atomic_load(&h->active);
}

void httpd_stop(struct httpd *h)
{
    if (!h)
        return;
    /* Handlers first: what is queued is answered, and nothing is left suspended when MHD stops. */
    pthread_mutex_lock(&h->lock);
    h->stopping = true;
    pthread_cond_broadcast(&h->more);
    pthread_mutex_unlock(&h->lock);
    for (int i = 0; i < h->nthreads; i++)
        pthread_join(h->thread[i], NULL);
    if (h->daemon)
        MHD_stop_daemon(h->daemon);
    pthread_mutex_destroy(&h->lock);
    pthread_cond_destroy(&h->more);
    free(h);
}
