/* retrain: projects that train by themselves. That no two trainings of a project meet is the store's promise. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/log.h"
#include "core/store/registry.h"
#include "core/task/retrain.h"

#define MIN_NEW_LABELS_DEFAULT 50

/* How many new labels the project waits for; 0: it does not train by itself. */
static int64_t wanted(const struct project_record *p)
{
    json_t *settings = json_loads(p->settings ? p->settings : "{}", 0, NULL);
    const json_t *r = json_object_get(settings, "retrain");
    const char *mode = json_string_value(json_object_get(r, "mode"));
    const json_t *n = json_object_get(r, "min_new_labels");
    int64_t out = 0;
    if (mode && strcmp(mode, "auto") == 0)
        out = json_integer_value(n) > 0 ? json_integer_value(n) : MIN_NEW_LABELS_DEFAULT;
    json_decref(settings);
    return out;
}

int retrain_params(const struct project_record *p, const json_t *given, struct buf *out, struct err *e)
{
    json_t *settings = json_loads(p->settings ? p->settings : "{}", 0, NULL);
    const json_t *holdout = json_object_get(json_object_get(settings, "retrain"), "holdout");
    json_t *params = given ? json_copy((json_t *)(uintptr_t)given) : json_object();
    struct retrain_opts o;
    if (json_number_value(holdout) > 0 && !json_object_get(params, "holdout"))
        json_object_set(params, "holdout", (json_t *)(uintptr_t)holdout);
    json_object_set_new(params, "project", json_string(p->id));
    int rc = retrain_parse(params, &o, e);
    char *text = rc ? NULL : json_dumps(params, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(12));
    if (!rc && !text)
        rc = err_set(e, ERR_NOMEM, "out of memory for a job");
    if (text)
        buf_puts(out, text);
    free(text);
    json_decref(params);
    json_decref(settings);
    return rc;
}

static int start(struct store *s, const struct project_record *p, const char *model, int64_t labels, int64_t *started,
                 struct err *e)
{
    struct buf params = BUF_INIT;
    struct job j = {0};
    int rc = retrain_params(p, NULL, &params, e);
    struct job_new n = {.kind = JOB_train,
                        .params = params.data,
                        .model = model,
                        .project_id = p->id,
                        .tenant = p->tenant,
                        .priority = RETRAIN_PRIORITY,
                        .max_attempts = RETRAIN_ATTEMPTS};
    if (!rc)
        rc = job_create(s, &n, &j, NULL, e);
    if (!rc) {
        log_info(LOG_MSG("a project trains by itself"), LOG_STR("project", p->id), LOG_STR("job", j.id),
                 LOG_INT("new_labels", labels));
        *started += 1;
    }
    job_fini(&j);
    buf_free(&params);
    return rc == ERR_EXISTS || rc == ERR_BUSY ? 0 : rc; /* another node was faster, or the queue is full for now */
}

int retrain_auto(struct store *s, const char *ref, int64_t *started, struct err *e)
{
    char cursor[ID_SIZE] = "", model[REGISTRY_NAME_MAX + 1];
    snprintf(model, sizeof(model), "%.*s", (int)strcspn(ref, "@:"), ref);
    int64_t made = 0;
    int rc = 0;
    for (bool more = true; more && !rc;) {
        struct project_list l = {0};
        rc = project_list(s, NULL, cursor[0] ? cursor : NULL, 200, &l, e);
        for (size_t i = 0; !rc && i < l.n; i++) {
            int64_t want = wanted(&l.items[i]), have = 0;
            if (want > 0)
                rc = project_new_labels(s, l.items[i].id, &have, e);
            if (!rc && want > 0 && have >= want)
                rc = start(s, &l.items[i], model, have, &made, e);
        }
        more = !rc && l.next_cursor;
        snprintf(cursor, sizeof(cursor), "%s", more ? l.next_cursor : "");
        project_list_fini(&l);
    }
    if (started)
        *started = made;
    return rc;
}
