/* Records as JSON documents. */
#include "api/documents.h"

#include <math.h>
#include <string.h>

#include "core/base/clock.h"

json_t *time_json(int64_t ms)
{
    char text[CLOCK_RFC3339_SIZE];
    return ms ? json_string(clock_rfc3339(ms, text)) : json_null();
}

static json_t *number_or_null(double v)
{
    return v > 0 && isfinite(v) ? json_real(v) : json_null();
}

json_t *clip_json(const struct clip_record *c)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:I, s:o, s:o, s:s*, s:I, s:s*, s:o, s:o}", "id", c->id, "sha256", c->sha256,
                     "frames", (json_int_t)c->frames, "width", (json_int_t)c->width, "height", (json_int_t)c->height,
                     "fps", number_or_null(c->fps), "duration_s", number_or_null(c->duration_s), "codec", c->codec,
                     "bytes", (json_int_t)c->bytes, "name", c->name, "created_at", time_json(c->created_ms),
                     "expires_at", time_json(c->expires_ms));
}

static json_t *error_json(const struct job *j)
{
    if (!j->error_code)
        return json_null();
    return json_pack("{s:s, s:s}", "code", j->error_code, "message", j->error_message ? j->error_message : "");
}

/* What the worker described, with the addresses of the results; null before there are any. */
static json_t *outputs_json(const struct job *j)
{
    if (j->output_epoch == 0)
        return json_null();
    json_t *out = json_loads(j->outputs ? j->outputs : "{}", 0, NULL);
    if (!json_is_object(out)) {
        json_decref(out);
        out = json_object();
    }
    if (strcmp(j->kind, "saliency") == 0) {
        json_object_set_new(out, "maps", json_sprintf("/v1/jobs/%s/maps/{n}.png", j->id));
        json_object_set_new(out, "maps_zip", json_sprintf("/v1/jobs/%s/maps.zip", j->id));
        if (json_is_true(json_object_get(out, "overlay")))
            json_object_set_new(out, "overlay", json_sprintf("/v1/jobs/%s/overlay.mp4", j->id));
        else
            json_object_del(out, "overlay");
    }
    if (strcmp(j->kind, "eval") == 0)
        json_object_set_new(out, "report", json_sprintf("/v1/jobs/%s/report", j->id));
    return out;
}

static void add_place(struct store *s, const struct job *j, json_t *doc)
{
    struct job_place place = {.eta_ms = -1};
    if (!job_state_final(j->state))
        job_place(s, j, &place, NULL);
    json_object_set_new(doc, "queue_position", place.position > 0 ? json_integer(place.position) : json_null());
    json_object_set_new(doc, "eta_s", place.eta_ms >= 0 ? json_real((double)place.eta_ms / 1e3) : json_null());
}

json_t *job_json(struct store *s, const struct job *j)
{
    json_t *params = json_loads(j->params ? j->params : "{}", 0, NULL);
    json_t *doc = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:o, s:I, s:I, s:{s:I, s:o, s:s}, s:s?, s:s?, s:s?, s:s?, s:o, s:o, s:o, s:o}", "id",
        j->id, "kind", j->kind, "state", j->state, "created_at", time_json(j->created_ms), "started_at",
        time_json(j->started_ms), "finished_at", time_json(j->finished_ms), "attempt", (json_int_t)j->attempt,
        "max_attempts", (json_int_t)j->max_attempts, "progress", "done", (json_int_t)j->progress_done, "total",
        j->progress_total > 0 ? json_integer(j->progress_total) : json_null(), "unit",
        j->progress_unit ? j->progress_unit : "", "model", j->model, "model_version", j->model_version, "model_sha256",
        j->model_sha256, "clip_id", j->clip_id, "params", params ? params : json_object(), "error", error_json(j),
        "outputs", outputs_json(j), "expires_at", time_json(j->expires_ms));
    if (doc)
        add_place(s, j, doc);
    return doc;
}
