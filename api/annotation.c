/* Annotation records as documents. */
#include "api/annotation.h"

#include <stdio.h>
#include <string.h>

#include "api/context.h"
#include "api/documents.h"
#include "api/negotiate.h"

#define MASK_BYTES_MAX ((size_t)64 << 20)

json_t *counts_json(const struct project_counts *c)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "keyframes", (json_int_t)c->keyframes, "labels",
                     (json_int_t)c->labels, "proposed", (json_int_t)c->proposed, "accepted", (json_int_t)c->accepted,
                     "rejected", (json_int_t)c->rejected, "stale", (json_int_t)c->stale);
}

static json_t *count_json(struct store *s, const char *project_id, const char *clip_id)
{
    struct project_counts c;
    return project_count(s, project_id, clip_id, &c, NULL) == 0 ? counts_json(&c) : json_null();
}

json_t *project_json(struct store *s, const struct project_record *p)
{
    json_t *doc = json_loads(p->settings, 0, NULL);
    if (!doc)
        return NULL;
    json_t *facts =
        json_pack("{s:s, s:s, s:I, s:I, s:o, s:o, s:o}", "id", p->id, "name", p->name, "version",
                  (json_int_t)p->version, "clips", (json_int_t)p->clips, "counts", count_json(s, p->id, NULL),
                  "created_at", time_json(p->created_ms), "updated_at", time_json(p->updated_ms));
    json_object_update(doc, facts);
    json_decref(facts);
    return doc;
}

json_t *project_clip_json(struct store *s, const char *project_id, const struct clip_record *c)
{
    json_t *doc = clip_json(c);
    if (doc)
        json_object_set_new(doc, "counts", count_json(s, project_id, c->id));
    return doc;
}

const char *mask_etag(const struct mask_record *m, char out[ANNOTATION_ETAG_SIZE])
{
    snprintf(out, ANNOTATION_ETAG_SIZE, "%lld-%.16s", (long long)m->version, m->sha256);
    return out;
}

const char *version_etag(int64_t version, char out[ANNOTATION_ETAG_SIZE])
{
    snprintf(out, ANNOTATION_ETAG_SIZE, "v%lld", (long long)version);
    return out;
}

json_t *mask_json(const struct mask_record *m)
{
    char etag[ANNOTATION_ETAG_SIZE];
    return json_pack("{s:I, s:I, s:o, s:s, s:I, s:s, s:s, s:b, s:o}", "frame", (json_int_t)m->frame, "version",
                     (json_int_t)m->version, "etag", json_sprintf("\"%s\"", mask_etag(m, etag)), "sha256", m->sha256,
                     "objects", (json_int_t)m->objects, "author", m->author ? m->author : "", "origin", m->origin,
                     "deleted", (int)(m->deleted != 0), "updated_at", time_json(m->created_ms));
}

static json_t *frame_or_null(int64_t frame)
{
    return frame >= 0 ? json_integer(frame) : json_null();
}

json_t *label_json(const struct label_record *l)
{
    return json_pack("{s:I, s:s, s:s, s:f, s:o, s:o, s:I, s:I, s:s?, s:s?, s:s?, s:b, s:b, s:b, s:s?, s:I, s:o}",
                     "frame", (json_int_t)l->frame, "source", l->source, "state", l->state, "confidence", l->confidence,
                     "left", frame_or_null(l->left_frame), "right", frame_or_null(l->right_frame), "left_version",
                     (json_int_t)l->left_version, "right_version", (json_int_t)l->right_version, "model", l->model,
                     "model_sha256", l->model_sha256, "flow", l->flow, "stale", (int)(l->stale > 0), "mask",
                     (int)(l->sha256 != NULL), "uncertainty", (int)(l->uncertainty_sha256 != NULL), "job_id", l->job_id,
                     "version", (json_int_t)l->version, "updated_at", time_json(l->updated_ms));
}

int send_mask(struct http_request *req, const char *sha256, const char *etag, int64_t modified_ms,
              struct http_response *resp, struct err *e)
{
    char key[MASK_KEY_SIZE];
    struct buf png = BUF_INIT;
    int64_t offset, len;
    mask_key(sha256, key);
    int rc = blob_get(req->api->cfg.blobs, key, MASK_BYTES_MAX, &png, e);
    if (rc == ERR_NOTFOUND)
        rc = err_set(e, ERR_INTERNAL, "the bytes of mask %s are missing", sha256);
    if (rc == 0)
        rc = negotiate_range(req, resp, etag, modified_ms, (int64_t)png.len, &offset, &len, e);
    if (rc == 0)
        http_set_header(resp, "Cache-Control", "private, no-cache");
    if (rc == 0 && resp->status != 304) {
        memmove(png.data, png.data + offset, (size_t)len);
        png.len = (size_t)len;
        rc = http_set_buf(resp, "image/png", &png, e);
    }
    buf_free(&png);
    return rc;
}
