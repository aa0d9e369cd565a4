/*
 * /v1/projects/{p}/export and /import. An export is made by a thread of its own while it is sent: it decodes pictures,
 * which the threads that move bytes must not wait for. Between the two stands a bounded buffer.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/annotation.h"
#include "api/context.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/problem.h"
#include "api/route.h"
#include "api/upload.h"
#include "core/base/log.h"
#include "core/task/exchange.h"

#define BUFFER_BYTES ((size_t)4 << 20) /* the maker pauses above */
enum { EXPORTS_MAX = 8, RETRY_AFTER_S = 10 };

struct maker {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t room;
    struct http_request *req;
    struct export *export;
    struct buf out;
    size_t taken;
    bool ended, failed, stopped, reader_waits;
};

static atomic_int exports;

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

static void wake_reader(struct maker *m)
{
    if (m->reader_waits)
        http_wake(m->req);
    m->reader_waits = false;
}

/* Output of the archive's writer. */
static int take(void *arg, const void *data, size_t len, struct err *e)
{
    struct maker *m = arg;
    pthread_mutex_lock(&m->lock);
    while (!m->stopped && m->out.len - m->taken > BUFFER_BYTES)
        pthread_cond_wait(&m->room, &m->lock);
    int rc = m->stopped ? err_set(e, ERR_CANCELED, "the client went away") : 0;
    if (rc == 0) {
        buf_append(&m->out, data, len);
        rc = m->out.failed ? err_set(e, ERR_NOMEM, "no memory for the archive") : 0;
        wake_reader(m);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static void *make(void *arg)
{
    struct maker *m = arg;
    struct err e = {0};
    int rc;
    do
        rc = export_step(m->export, &e);
    while (rc > 0);
    if (rc < 0 && rc != ERR_CANCELED)
        log_error(LOG_MSG("export cut off"), LOG_STR("error", e.msg));
    pthread_mutex_lock(&m->lock);
    m->ended = true;
    m->failed = rc < 0;
    wake_reader(m);
    pthread_mutex_unlock(&m->lock);
    return NULL;
}

/* ---- the stream ------------------------------------------------------------------------------------------------------ */

static ssize_t read_archive(void *arg, int64_t pos, char *out, size_t cap)
{
    (void)pos;
    struct maker *m = arg;
    pthread_mutex_lock(&m->lock);
    size_t n = m->out.len - m->taken;
    n = n < cap ? n : cap;
    ssize_t rc = n ? (ssize_t)n : m->failed ? HTTP_STREAM_BROKEN : m->ended ? HTTP_STREAM_END : HTTP_STREAM_WAIT;
    m->reader_waits = rc == HTTP_STREAM_WAIT;
    if (n) {
        memcpy(out, m->out.data + m->taken, n);
        m->taken += n;
    }
    if (m->taken == m->out.len) {
        buf_reset(&m->out);
        m->taken = 0;
    }
    pthread_cond_signal(&m->room);
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static void close_archive(void *arg)
{
    struct maker *m = arg;
    pthread_mutex_lock(&m->lock);
    m->stopped = true;
    pthread_cond_signal(&m->room);
    pthread_mutex_unlock(&m->lock);
    pthread_join(m->thread, NULL);
    export_close(m->export);
    pthread_cond_destroy(&m->room);
    pthread_mutex_destroy(&m->lock);
    buf_free(&m->out);
    free(m);
    atomic_fetch_sub(&exports, 1);
}

static int start(struct http_request *req, const struct export_opts *o, struct maker **out, struct http_response *resp,
                 struct err *e)
{
    if (atomic_fetch_add(&exports, 1) >= EXPORTS_MAX) {
        atomic_fetch_sub(&exports, 1);
        resp->retry_after_s = RETRY_AFTER_S;
        return problem_set(resp, e, 503, "too_many_exports", "%d exports are being made", EXPORTS_MAX);
    }
    struct maker *m = calloc(1, sizeof(*m));
    int rc = m ? export_open(o, take, m, &m->export, e) : err_set(e, ERR_NOMEM, "no memory for the export");
    if (rc == 0) {
        m->req = req;
        pthread_mutex_init(&m->lock, NULL);
        pthread_cond_init(&m->room, NULL);
        if (pthread_create(&m->thread, NULL, make, m) == 0) {
            *out = m;
            return 0;
        }
        rc = err_set(e, ERR_BUSY, "no thread for the export");
        export_close(m->export);
    }
    free(m);
    atomic_fetch_sub(&exports, 1);
    return rc;
}

/* ---- export ---------------------------------------------------------------------------------------------------------- */

/* "accepted,proposed" to bits. */
static int parse_states(const char *text, unsigned *bits, struct err *e)
{
    *bits = text ? 0 : 1u << LABEL_STATE_ACCEPTED;
    for (const char *p = text; p && *p;) {
        char word[20];
        size_t n = strcspn(p, ",");
        snprintf(word, sizeof(word), "%.*s", (int)(n < sizeof(word) ? n : sizeof(word) - 1), p);
        int state = label_state_parse(word);
        if (state < 0 || state == LABEL_STATE_REJECTED)
            return err_set(e, ERR_INVALID, "'states' is a list of accepted and proposed, not '%s'", word);
        *bits |= 1u << state;
        p += n + (p[n] == ',');
    }
    return 0;
}

static int read_export(const struct http_request *req, struct export_opts *o, struct err *e)
{
    static const char *const names[] = {"format", "states", "frames", NULL};
    const char *format = param_get(req, "format"), *frames = param_get(req, "frames");
    int rc = params_check(req, names, e);
    int f = format ? exchange_format_parse(format) : ERR_INVALID;
    if (rc == 0 && f < 0)
        rc = err_set(e, ERR_INVALID, "'format' must be davis, coco, youtube-vos or cvat");
    o->format = f < 0 ? EXCHANGE_DAVIS : (enum exchange_format)f;
    if (rc == 0)
        rc = parse_states(param_get(req, "states"), &o->states, e);
    if (!frames)
        o->pictures = EXPORT_USUAL;
    else if (strcmp(frames, "all") == 0)
        o->pictures = EXPORT_ALL;
    else if (strcmp(frames, "labelled") == 0)
        o->pictures = EXPORT_LABELLED;
    else if (rc == 0)
        rc = err_set(e, ERR_INVALID, "'frames' must be all or labelled");
    return rc;
}

/* A file name that needs no quoting. */
static void file_name(const char *project, char *out, size_t size)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    snprintf(out, size, "%s", project);
    for (char *p = out; *p; p++)
        if (!strchr(legal, *p))
            *p = '_';
}

int route_export_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    struct project_record p = {0};
    struct export_opts o = {.store = req->api->cfg.store, .blobs = req->api->cfg.blobs};
    struct maker *m = NULL;
    char name[80];
    int rc = read_export(req, &o, e);
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    o.project_id = p.id;
    if (rc == 0)
        rc = start(req, &o, &m, resp, e);
    if (rc == 0) {
        struct http_stream s = {.arg = m, .len = -1, .read = read_archive, .close = close_archive};
        file_name(p.name, name, sizeof(name));
        http_set_stream(resp, "application/zip", &s);
        http_set_header(resp, "Content-Disposition", "attachment; filename=\"%s-%s.zip\"", name,
                        exchange_format_name(o.format));
        http_set_header(resp, "Cache-Control", "no-store");
        resp->status = 200;
    }
    project_record_fini(&p);
    return rc;
}

/* ---- import ---------------------------------------------------------------------------------------------------------- */

static int probe(void *arg, const char *path, struct clip_info *info, struct err *e)
{
    const struct api_host *host = arg;
    return host->probe(host->arg, path, true, info, e);
}

static int run_import(struct http_request *req, const struct project_record *p, int format, struct import_result *out,
                      struct http_response *resp, struct err *e)
{
    const struct api_config *cfg = &req->api->cfg;
    const struct upload_file *f = upload_file(req, "clip");
    if (!f)
        return err_set(e, ERR_INVALID, "the body must be the archive, an application/zip");
    const struct import_opts o = {.store = cfg->store,
                                  .blobs = cfg->blobs,
                                  .project_id = p->id,
                                  .tenant = request_tenant(req),
                                  .path = f->path,
                                  .format = format,
                                  .actor = request_actor(req),
                                  .probe = probe,
                                  .probe_arg = (void *)(uintptr_t)&cfg->host};
    int rc = import_run(&o, out, e);
    if (rc == ERR_INVALID || rc == ERR_UNSUPPORTED || rc == ERR_CORRUPT) {
        resp->problem_status = 422;
        resp->problem = "bad_archive";
    }
    return rc;
}

int route_import_project(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"format", NULL};
    struct project_record p = {0};
    struct import_result got = {0};
    const char *word = param_get(req, "format");
    int format = word ? exchange_format_parse(word) : -1;
    int rc = params_check(req, names, e);
    if (rc == 0 && word && format < 0)
        rc = err_set(e, ERR_INVALID, "'format' must be davis, coco, youtube-vos or cvat");
    if (rc == 0)
        rc = lookup_project(req, &p, e);
    if (rc == 0)
        rc = run_import(req, &p, format, &got, resp, e);
    if (rc == 0)
        rc = json_response(resp, 200,
                           json_pack("{s:s, s:I, s:I, s:I}", "format", exchange_format_name(got.format), "clips",
                                     (json_int_t)got.clips, "keyframes", (json_int_t)got.keyframes, "labels",
                                     (json_int_t)got.labels),
                           e);
    project_record_fini(&p);
    return rc;
}
