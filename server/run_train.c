/*
 * Train jobs: snapshot, extract, train, judge, conclude (core/task/retrain.h). Whatever a later attempt on any machine needs
 * is outside of this one: the snapshot and the pinned champion in the store, the checkpoint in jobs/{id}/train/. The end is
 * one transaction that holds the lease, so a job that ends twice promotes once.
 */
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/task/retrain.h"
#include "server/worker.h"

#define CURVE_MS 2000
#define STALE_S (2 * 86400) /* scratch folders of workers that died and never came back */
#define MANIFEST_MAX_BYTES ((size_t)256 << 20)

/* What is carried from attempt to attempt, and where it stands in the run's folder; the checkpoint comes last, so that
 * what it belongs to is there before it is. */
static const char *const carried[] = {"model.safetensors", "model.json", "log.jsonl", "checkpoint.safetensors"};

struct training {
    struct run *run;
    struct retrain_opts opts;
    struct retrain_set set;
    struct snapshot snapshot;
    struct registry_version champion;
    struct retrain_dirs dirs;
    char scratch[FS_PATH_MAX];
    int64_t told_ms;
};

static void __attribute__((format(printf, 2, 3))) say(struct training *t, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    json_t *line = json_pack("{s:s}", "message", text);
    char *data = line ? json_dumps(line, JSON_COMPACT) : NULL;
    if (data)
        job_log(t->run->store, &t->run->lease, data, NULL);
    log_info(LOG_MSG("training"), LOG_STR("detail", text));
    free(data);
    json_decref(line);
}

/* ---- scratch ------------------------------------------------------------------------------------------------------- */

static void remove_stale(const char *dir)
{
    struct fs_list l = {0};
    if (fs_list(dir, &l, NULL))
        return;
    for (size_t i = 0; i < l.n; i++) {
        char path[FS_PATH_MAX];
        struct stat st;
        if (fs_join(path, dir, l.names[i], NULL) == 0 && stat(path, &st) == 0 && st.st_mtime < time(NULL) - STALE_S)
            fs_remove_tree(path, NULL);
    }
    fs_list_free(&l);
}

static int make_scratch(struct training *t, struct err *e)
{
    char all[FS_PATH_MAX];
    int rc = fs_join(all, t->run->scratch_dir, "train", e);
    if (rc == 0)
        rc = fs_mkdirs(all, e);
    if (rc)
        return rc;
    remove_stale(all);
    rc = fs_join(t->scratch, all, t->run->job->id, e);
    if (rc == 0)
        rc = fs_remove_tree(t->scratch, e);
    return rc == 0 ? retrain_dirs_make(t->scratch, &t->dirs, e) : rc;
}

/* ---- the snapshot -------------------------------------------------------------------------------------------------- */

static int take_snapshot(struct training *t, struct err *e)
{
    struct run *r = t->run;
    struct buf manifest = BUF_INIT;
    int rc = snapshot_of_job(r->store, r->job->id, &t->snapshot, e);
    if (rc == 1) {
        rc = blob_get(r->blobs, t->snapshot.manifest_key, MANIFEST_MAX_BYTES, &manifest, e);
        if (rc == 0)
            rc = retrain_load(&manifest, &t->set, e);
    } else if (rc == 0) {
        rc = retrain_snapshot(r->store, r->job->project_id, &t->opts, &manifest, e);
        if (rc == 0)
            rc = retrain_load(&manifest, &t->set, e);
        if (rc == 0)
            rc = snapshot_add(r->store, r->blobs, &r->lease, r->job->project_id, &manifest, (int64_t)t->set.n,
                              t->set.n_train + t->set.n_held, &t->snapshot, e);
    }
    buf_free(&manifest);
    return rc;
}

static int extract(struct training *t, struct err *e)
{
    struct run *r = t->run;
    int rc = 0;
    for (size_t i = 0; i < t->set.n && rc == 0; i++) {
        struct run_input in;
        rc = run_input_open(r, t->set.clips[i].id, &in, e);
        if (rc == 0)
            rc = retrain_extract(&t->set.clips[i], r->blobs, in.path, &r->limits, &t->dirs, run_stopped, r, e);
        run_input_done(&in);
        if (rc)
            err_wrap(e, "clip %s", t->set.clips[i].id);
    }
    return rc;
}

/* ---- training ------------------------------------------------------------------------------------------------------ */

static int carried_key(const struct training *t, size_t i, char key[BLOB_KEY_MAX], char path[FS_PATH_MAX],
                       struct err *e)
{
    snprintf(key, BLOB_KEY_MAX, "jobs/%s/train/%s", t->run->job->id, carried[i]);
    return fs_join(path, t->dirs.run, carried[i], e);
}

static void saved(void *arg)
{
    struct training *t = arg;
    char key[BLOB_KEY_MAX], path[FS_PATH_MAX];
    struct err e = {0};
    for (size_t i = 0; i < sizeof(carried) / sizeof(carried[0]); i++) {
        int rc = carried_key(t, i, key, path, &e);
        if (rc == 0 && fs_exists(path))
            rc = blob_put_file(t->run->blobs, key, path, false, &e);
        if (rc)
            log_warn(LOG_MSG("a checkpoint stays on this machine"), LOG_STR("error", e.msg));
    }
}

/* What an earlier attempt left; without it the run begins at its beginning. */
static int restore(struct training *t, bool *found, struct err *e)
{
    char key[BLOB_KEY_MAX], path[FS_PATH_MAX];
    size_t n = sizeof(carried) / sizeof(carried[0]);
    int rc = carried_key(t, n - 1, key, path, e);
    int have = rc ? rc : blob_exists(t->run->blobs, key, e);
    *found = have == 1;
    for (size_t i = 0; i < n && have == 1 && rc == 0; i++) {
        rc = carried_key(t, i, key, path, e);
        int there = rc ? rc : blob_exists(t->run->blobs, key, e);
        rc = there == 1 ? blob_get_file(t->run->blobs, key, path, e) : there;
    }
    return have < 0 ? have : rc;
}

static void tell_progress(void *arg, const struct train_progress *p)
{
    struct training *t = arg;
    int64_t now = clock_mono_ms();
    run_progress(t->run, p->step, p->steps);
    if (now - t->told_ms < CURVE_MS && p->step < p->steps)
        return;
    t->told_ms = now;
    const struct curve_value v[] = {{"loss", p->loss}, {"lr", p->lr}, {"samples_per_s", p->samples_per_s}};
    curve_add(t->run->store, &t->run->lease, p->step, v, sizeof(v) / sizeof(v[0]), NULL);
}

static void tell_line(void *arg, const char *json_line)
{
    struct training *t = arg;
    job_log(t->run->store, &t->run->lease, json_line, NULL);
}

static bool stopped(void *arg)
{
    return run_stopped(((struct training *)arg)->run);
}

static int train(struct training *t, const char *init, const struct model_info *champion, struct err *e)
{
    struct train_opts o;
    const char *data[1];
    bool found = false;
    struct train_hooks hooks = {
        .arg = t, .progress = tell_progress, .log = tell_line, .saved = saved, .cancel = stopped};
    retrain_recipe(&t->opts, champion, &t->champion, init, &t->dirs, data, &o);
    o.device = t->run->device;
    int rc = restore(t, &found, e);
    if (rc)
        return rc;
    say(t, found ? "going on from a checkpoint" : "training on %lld labels", (long long)t->set.n_train);
    rc = train_run(&o, &hooks, NULL, e);
    if (rc != ERR_CONFLICT || !found)
        return rc;
    say(t, "the checkpoint does not fit (%s): training begins again", e->msg);
    rc = fs_remove_tree(t->dirs.run, e);
    if (rc == 0)
        rc = fs_mkdirs(t->dirs.run, e);
    return rc == 0 ? train_run(&o, &hooks, NULL, e) : rc;
}

/* ---- the verdict --------------------------------------------------------------------------------------------------- */

static int predict(struct training *t, const char *folder, const char *out, struct err *e)
{
    struct run *r = t->run;
    struct model *m;
    int rc = model_open(folder, r->device, &m, e);
    for (size_t i = 0; i < t->set.n && rc == 0; i++) {
        struct run_input in;
        if (t->set.clips[i].n_held == 0)
            continue;
        rc = run_input_open(r, t->set.clips[i].id, &in, e);
        if (rc == 0)
            rc = retrain_predict(m, &t->set.clips[i], in.path, &r->limits, out, run_stopped, r, e);
        run_input_done(&in);
    }
    model_close(m);
    return rc;
}

static json_t *describe(const struct training *t, const struct retrain_verdict *v)
{
    return json_pack("{s:s, s:s, s:{s:s, s:s, s:I, s:I, s:I, s:s}, s:{s:s, s:s, s:O}, s:{s:O}, s:O, s:O, s:s}",
                     "project", t->run->job->project_id, "model", t->champion.model_id, "snapshot", "id",
                     t->snapshot.id, "content_sha256", t->snapshot.content_sha256, "clips",
                     (json_int_t)t->snapshot.clips, "train_labels", (json_int_t)t->set.n_train, "held_out_labels",
                     (json_int_t)t->set.n_held, "held_out", t->set.by_clip ? "clips" : "intervals", "champion",
                     "version", t->champion.version, "sha256", t->champion.sha256, "metrics", v->champion, "challenger",
                     "metrics", v->challenger, "gates", v->gates, "protocol", v->protocol, "reason", v->reason);
}

/* The outputs of the job: what was kept with the version, and what became of it. */
static int put_outputs(const struct registry_version *v, bool promoted, char **outputs, struct err *e)
{
    json_t *doc = json_loads(v->metrics ? v->metrics : "{}", 0, NULL);
    json_t *challenger = json_object_get(doc, "challenger");
    json_object_set_new(doc, "promoted", json_boolean(promoted));
    if (challenger) {
        json_object_set_new(challenger, "version", json_string(v->version));
        json_object_set_new(challenger, "sha256", json_string(v->sha256));
    }
    *outputs = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    json_decref(doc);
    return *outputs ? 0 : err_set(e, ERR_NOMEM, "no memory to describe the results");
}

static int conclude(struct training *t, const struct retrain_verdict *v, char **outputs, struct err *e)
{
    char weights[FS_PATH_MAX], json[FS_PATH_MAX];
    struct buf info = BUF_INIT;
    struct registry_version made = {0};
    bool promoted = false;
    json_t *doc = describe(t, v);
    char *metrics = doc ? json_dumps(doc, JSON_COMPACT) : NULL;
    int rc = metrics ? fs_join(weights, t->dirs.run, MODEL_FILE, e) : err_set(e, ERR_NOMEM, "no memory for a report");
    if (rc == 0)
        rc = fs_join(json, t->dirs.run, MODEL_JSON, e);
    if (rc == 0)
        rc = fs_read(json, (size_t)1 << 20, &info, e);
    struct registry_new n = {.model = t->champion.model_id,
                             .origin = "train",
                             .info = info.data,
                             .metrics = metrics,
                             .job_id = t->run->job->id,
                             .snapshot_id = t->snapshot.id,
                             .parent_version = t->champion.version};
    struct registry_model m = {0};
    if (rc == 0)
        rc = registry_model(t->run->store, n.model, &m, e);
    n.arch = m.arch;
    struct registry_verdict verdict = {v->promote, v->reason};
    if (rc == 0)
        rc =
            registry_conclude(t->run->store, t->run->blobs, &t->run->lease, weights, &n, &verdict, &made, &promoted, e);
    if (rc == 0) {
        say(t, "version %s: %s", made.version, v->reason);
        rc = put_outputs(&made, promoted, outputs, e);
    }
    registry_version_fini(&made);
    registry_model_fini(&m);
    buf_free(&info);
    free(metrics);
    json_decref(doc);
    return rc;
}

/* ---- the job ------------------------------------------------------------------------------------------------------- */

static int judge(struct training *t, const char *champion, char **outputs, struct err *e)
{
    struct retrain_verdict v = {0};
    say(t, "measuring on %lld held-out labels", (long long)t->set.n_held);
    int rc = predict(t, champion, t->dirs.champion, e);
    if (rc == 0)
        rc = predict(t, t->dirs.run, t->dirs.challenger, e);
    if (rc == 0)
        rc = retrain_judge(&t->opts, &t->dirs, &v, e);
    if (rc == 0)
        rc = conclude(t, &v, outputs, e);
    retrain_verdict_fini(&v);
    return rc;
}

static int learn(struct training *t, char **outputs, struct err *e)
{
    struct run *r = t->run;
    struct model *champion;
    char folder[FS_PATH_MAX], init[FS_PATH_MAX];
    int rc = run_pin(r, &t->champion, e);
    if (rc == 0)
        rc = take_snapshot(t, e);
    if (rc == 0)
        rc = make_scratch(t, e);
    if (rc == 0)
        rc = extract(t, e);
    if (rc == 0)
        rc = models_fetch(&r->models, &t->champion, folder, e);
    if (rc == 0)
        rc = fs_join(init, folder, MODEL_FILE, e);
    if (rc == 0)
        rc = model_open(folder, r->device, &champion, e);
    if (rc)
        return rc;
    const struct model_info info = *model_info(champion);
    model_close(champion);
    rc = train(t, init, &info, e);
    return rc == 0 ? judge(t, folder, outputs, e) : rc;
}

/* An attempt before this one may have come to the end, all but telling so. */
static int ended_before(struct run *r, char **outputs, struct err *e)
{
    struct registry_version v;
    int rc = registry_version_of_job(r->store, r->job->id, &v, e);
    if (rc != 1)
        return rc;
    bool promoted = false;
    rc = registry_was_promoted(r->store, &v, &promoted, e);
    if (rc == 0)
        rc = put_outputs(&v, promoted, outputs, e);
    registry_version_fini(&v);
    return rc ? rc : 1;
}

int run_train(struct run *r, char **outputs, struct err *e)
{
    struct training t = {.run = r};
    char prefix[BLOB_KEY_MAX];
    json_t *params = json_loads(r->job->params ? r->job->params : "{}", 0, NULL);
    int rc = ended_before(r, outputs, e);
    if (rc == 0)
        rc = retrain_parse(params, &t.opts, e);
    if (rc == 0)
        rc = learn(&t, outputs, e);
    if (rc >= 0 || atomic_load(&r->verdict) == ERR_CANCELED) {
        snprintf(prefix, sizeof(prefix), "jobs/%s/train/", r->job->id);
        blob_delete_prefix(r->blobs, prefix, NULL, NULL); /* nobody goes on from there */
    }
    if (t.scratch[0])
        fs_remove_tree(t.scratch, NULL);
    registry_version_fini(&t.champion);
    snapshot_fini(&t.snapshot);
    retrain_set_free(&t.set);
    json_decref(params);
    return rc < 0 ? rc : 0;
}
