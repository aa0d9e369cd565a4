/* Clips and jobs coming in. */
#include "api/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/negotiate.h"
#include "api/problem.h"
#include "api/upload.h"
#include "core/base/clock.h"
#include "core/base/log.h"

#define RETRY_AFTER_S 5
#define WORKER_GONE_MS 15000 /* a worker that is being started again does not turn clients away */
#define IDEMPOTENCY_KEY_MAX 255

int api_admit_job(struct api *api, struct http_response *resp, struct err *e)
{
    const struct api_host *host = &api->cfg.host;
    if (host->draining(host->arg)) {
        resp->retry_after_s = RETRY_AFTER_S;
        return problem_set(resp, e, 503, "draining", "the service is shutting down");
    }
    if (host->workers_alive(host->arg) == 0 && clock_mono_ms() - atomic_load(&api->worker_seen_ms) > WORKER_GONE_MS) {
        resp->retry_after_s = RETRY_AFTER_S;
        return problem_set(resp, e, 503, "no_worker", "no worker is there to take the job");
    }
    if (api->cfg.queue_limit > 0 && atomic_load(&api->queued) >= api->cfg.queue_limit) {
        resp->retry_after_s = RETRY_AFTER_S;
        return problem_set(resp, e, 429, "queue_full", "%lld jobs wait already", (long long)api->cfg.queue_limit);
    }
    return 0;
}

static void fill_record(struct clip_record *c, const struct clip_info *info, const struct upload_file *f,
                        const char *tenant)
{
    *c = (struct clip_record){
        .tenant = (char *)(uintptr_t)tenant,
        .name = f->name,
        .frames = info->frames,
        .width = info->width_px,
        .height = info->height_px,
        .fps = info->fps,
        .duration_s = info->duration_s,
        .codec = (char *)(uintptr_t)info->codec,
    };
}

/* The upload looked at and its bytes stored; the record borrows from `info` and the request. */
static int put_upload(struct http_request *req, struct upload_file *f, bool count, int64_t expires_ms,
                      struct clip_info *info, struct clip_new *out, struct http_response *resp, struct err *e)
{
    const struct api_config *cfg = &req->api->cfg;
    if (f->bytes == 0)
        return err_set(e, ERR_CORRUPT, "the uploaded clip is empty");
    int rc = cfg->host.probe(cfg->host.arg, f->path, count, info, e);
    if (rc == ERR_TIMEOUT)
        return problem_set(resp, e, 422, "decode_timeout", "the clip takes too long to decode");
    if (rc == 0)
        rc = clip_put(cfg->store, cfg->blobs, f->path, true, out, e);
    if (rc < 0)
        return rc;
    f->path[0] = '\0';
    fill_record(&out->record, info, f, request_tenant(req));
    out->record.expires_ms = expires_ms;
    return 0;
}

/* The request's upload, or NULL with *id set to the clip it names. */
static int find_clip(struct http_request *req, struct upload_file **f, const char **id, struct err *e)
{
    *f = upload_file(req, "clip");
    *id = param_get(req, "clip_id");
    if (*f && *id)
        return err_set(e, ERR_INVALID, "give either a clip or a clip_id");
    return *f || *id ? 0 : err_set(e, ERR_INVALID, "the request brings no clip (field 'clip')");
}

int submit_clip(struct http_request *req, bool count, int64_t expires_ms, struct clip_record *out, bool *existed,
                struct http_response *resp, struct err *e)
{
    struct store *store = req->api->cfg.store;
    struct upload_file *f;
    struct clip_info info;
    struct clip_new made;
    const char *id;
    bool old = false;
    *out = (struct clip_record){0};
    int rc = find_clip(req, &f, &id, e);
    if (rc == 0 && id)
        return lookup_clip(req, id, out, e);
    if (rc == 0)
        rc = put_upload(req, f, count, expires_ms, &info, &made, resp, e);
    if (rc == 0)
        rc = clip_record_new(store, &made, out, &old, e);
    if (rc == 0 && count && out->frames != info.frames) { /* it came with a job, which did not count */
        rc = clip_set_frames(store, out->id, info.frames, e);
        out->frames = info.frames;
    }
    if (existed)
        *existed = old;
    return rc;
}

int submit_job_clip(struct http_request *req, struct submitted_clip *out, struct http_response *resp, struct err *e)
{
    struct upload_file *f;
    const char *id;
    *out = (struct submitted_clip){0};
    int rc = find_clip(req, &f, &id, e);
    if (rc == 0 && id) {
        rc = lookup_clip(req, id, &out->found, e);
        out->id = out->found.id;
        out->sha256 = out->found.sha256;
        out->frames = out->found.frames;
    } else if (rc == 0) {
        int64_t expires_ms = clock_wall_ms() + req->api->cfg.retention_ms;
        rc = put_upload(req, f, false, expires_ms, &out->info, &out->upload, resp, e);
        out->made = &out->upload;
        out->sha256 = out->upload.sha256;
        out->frames = out->info.frames;
    }
    return rc;
}

void submitted_clip_fini(struct submitted_clip *c)
{
    clip_record_fini(&c->found);
}

static int idempotency_key(const struct http_request *req, const char **key, struct err *e)
{
    *key = http_header(req, "Idempotency-Key");
    if (!*key)
        return 0;
    size_t n = strlen(*key);
    for (size_t i = 0; i < n; i++)
        if ((*key)[i] < 0x20 || (*key)[i] == 0x7f)
            n = 0;
    return n > 0 && n <= IDEMPOTENCY_KEY_MAX
               ? 0
               : err_set(e, ERR_INVALID, "Idempotency-Key must have 1 to %d printable characters", IDEMPOTENCY_KEY_MAX);
}

static char *request_digest(const struct job_new *n, const char *subject, char hex[SHA256_HEX_SIZE])
{
    struct buf b = BUF_INIT;
    const char *const parts[] = {job_kind_name(n->kind), n->params, n->model, n->webhook_url, subject};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        buf_printf(&b, "%zu:%s,", parts[i] ? strlen(parts[i]) : 0, parts[i] ? parts[i] : "");
    if (!b.failed)
        sha256_hex(b.data, b.len, hex);
    bool ok = !b.failed;
    buf_free(&b);
    return ok ? hex : NULL;
}

int submit_job(struct http_request *req, struct job_new *n, const char *subject, struct job *out,
               struct http_response *resp, struct err *e)
{
    char digest[SHA256_HEX_SIZE];
    bool existed = false;
    n->tenant = request_tenant(req);
    n->traceparent = req->traceparent;
    n->request_hash = request_digest(n, subject, digest);
    int rc = idempotency_key(req, &n->idempotency_key, e);
    if (rc < 0)
        return rc;
    rc = job_create(req->api->cfg.store, n, out, &existed, e);
    if (rc == ERR_CONFLICT)
        return problem_set(resp, e, 409, "idempotency_conflict", "the Idempotency-Key was used for another request");
    if (rc == ERR_BUSY) {
        resp->retry_after_s = RETRY_AFTER_S;
        char why[sizeof(e->msg)];
        snprintf(why, sizeof(why), "%s", e->msg);
        return problem_set(resp, e, 429, "queue_full", "%s", why);
    }
    if (rc == 0 && existed)
        http_set_header(resp, "Idempotency-Replayed", "true");
    if (rc == 0)
        log_info(LOG_MSG(existed ? "job asked for again" : "job queued"), LOG_STR("job", out->id),
                 LOG_STR("kind", out->kind), LOG_STR("clip", out->clip_id ? out->clip_id : ""));
    return rc;
}

int submit_accepted(struct http_request *req, const struct job *j, struct http_response *resp, struct err *e)
{
    http_set_header(resp, "Location", "/v1/jobs/%s", j->id);
    return json_response(resp, 202, job_json(req->api->cfg.store, j), e);
}

/* ---- waiting ------------------------------------------------------------------------------------------------------- */

struct wait {
    struct watcher *watcher;
    char job_id[ID_SIZE];
};

static void wait_free(void *later)
{
    struct wait *w = later;
    watch_drop(w->watcher);
    free(w);
}

const char *submit_waited(const struct http_request *req)
{
    const struct wait *w = req->later;
    return w ? w->job_id : NULL;
}

int submit_wait(struct http_request *req, const char *job_id, struct err *e)
{
    return submit_wait_for(req, job_id, negotiate_wait(http_header(req, "Prefer")), e);
}

int submit_wait_for(struct http_request *req, const char *job_id, int seconds, struct err *e)
{
    struct wait *w = req->later;
    if (w)
        return watch_is_done(w->watcher) ? 0 : HTTP_LATER;
    if (seconds == 0)
        return 0;
    w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "no memory to wait for a job");
    memcpy(w->job_id, job_id, strnlen(job_id, ID_SIZE - 1));
    int64_t deadline = clock_mono_ms() + (int64_t)seconds * 1000;
    if (watch_final(req->api->watch, req, w->job_id, deadline, &w->watcher, e) < 0) {
        free(w);
        return 0; /* too many wait: the client is answered at once, as without the preference */
    }
    req->later = w;
    req->later_free = wait_free;
    return HTTP_LATER;
}
