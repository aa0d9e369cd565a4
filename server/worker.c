/*
 * The worker's loop: claim, run, publish. A second thread beats: it keeps the lease, learns of cancellation, and tells that the
 * worker lives. Results go to jobs/{id}/{epoch}/ and count only once job_publish accepted them; whatever else happens, the
 * attempt's blobs are removed again.
 */
#include "server/worker.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/base/par.h"
#include "core/net/detector.h"
#include "core/net/model.h"

#define BEAT_MS 1000
#define PROGRESS_MS 100
#define IDLE_WAIT_MS 1000
#define STORE_RETRY_MS 500

struct worker {
    const struct worker_opts *opts;
    struct store *store;
    struct blobs *blobs;
    struct tensor_device device;
    struct clip_limits limits;
    char id[64], host[64];
    int64_t started_ms;
    /* the model of the last job */
    struct model *model;
    char cache_dir[FS_PATH_MAX], models_dir[FS_PATH_MAX + 8]; /* copies of registered models are below the cache */
    struct detector *detector;                                /* of that model */
    int detector_px;
    /* the beating thread */
    pthread_t beat;
    pthread_mutex_t lock;
    pthread_cond_t stop_beat;
    bool stopping;
    struct run *run; /* the attempt that runs, or NULL */
};

/* Number of SIGTERMs: 1 finish and end, 2 give the job back and end. */
static atomic_int terminations;
static struct store *wake_store;

static void on_terminate(int sig)
{
    (void)sig;
    atomic_fetch_add(&terminations, 1);
    if (wake_store)
        store_wake(wake_store);
}

/* ---- for runners --------------------------------------------------------------------------------------------------- */

bool run_stopped(void *run)
{
    struct run *r = run;
    if (atomic_load(&terminations) > 1) {
        int none = 0;
        atomic_compare_exchange_strong(&r->verdict, &none, ERR_BUSY);
    }
    return atomic_load(&r->verdict) != 0;
}

/* A call for the lease failed for good: the attempt is over. Other failures may pass. */
static void take_verdict(struct run *r, int rc)
{
    int none = 0;
    if (rc == ERR_CANCELED || rc == ERR_LEASE_LOST)
        atomic_compare_exchange_strong(&r->verdict, &none, rc);
}

void run_progress(void *run, int64_t done, int64_t total)
{
    struct run *r = run;
    int64_t now = clock_mono_ms();
    if (now - r->progress_ms < PROGRESS_MS && done != total)
        return;
    r->progress_ms = now;
    take_verdict(r, job_progress(r->store, &r->lease, done, total > 0 ? total : r->job->progress_total, NULL));
}

int run_blob_open(struct run *r, const char *key, struct run_input *in, struct err *e)
{
    *in = (struct run_input){0};
    int rc = blob_local_path(r->blobs, key, in->path, e);
    if (rc != 0)
        return rc < 0 ? rc : blob_exists(r->blobs, key, e) == 0 ? err_set(e, ERR_NOTFOUND, "%s is gone", key) : 0;
    rc = blobs_temp(r->blobs, in->path, e);
    in->copy = rc == 0;
    return rc == 0 ? blob_get_file(r->blobs, key, in->path, e) : rc;
}

int run_input_open(struct run *r, const char *clip_id, struct run_input *in, struct err *e)
{
    struct clip_record clip = {0};
    char key[CLIP_KEY_SIZE];
    *in = (struct run_input){0};
    int rc = clip_get(r->store, clip_id, &clip, e);
    if (rc < 0)
        return rc;
    clip_key(&clip, key);
    clip_record_fini(&clip);
    return run_blob_open(r, key, in, e);
}

void run_input_done(struct run_input *in)
{
    if (in->copy)
        unlink(in->path);
    in->copy = false;
}

static void drop_detector(struct worker *w)
{
    detector_free(w->detector);
    w->detector = NULL;
}

/* The job's own model is pinned, any other is what it is now. */
static int find_version(struct run *r, const char *name, struct registry_version *v, struct err *e)
{
    bool own = r->job->model && strcmp(name, r->job->model) == 0;
    int rc = own ? registry_pin(r->store, &r->lease, name, v, e) : ERR_NOTFOUND;
    if (!own || rc == ERR_NOTFOUND)
        rc = models_resolve(r->store, r->models.models_dir, name, v, e);
    if (own && rc == 0) {
        registry_version_fini(v);
        rc = registry_pin(r->store, &r->lease, name, v, e);
    }
    return rc;
}

int run_pin(struct run *r, struct registry_version *out, struct err *e)
{
    return find_version(r, r->job->model, out, e);
}

int run_model(struct run *r, const char *name, struct model **out, struct err *e)
{
    struct worker *w = r->worker;
    struct registry_version v;
    int rc = find_version(r, name, &v, e);
    if (rc < 0)
        return rc;
    if (!w->model || strcmp(v.sha256, model_info(w->model)->sha256) != 0) {
        drop_detector(w);
        model_close(w->model);
        w->model = NULL;
        rc = models_open(&r->models, &v, r->device, &w->model, e);
        if (rc == 0)
            log_info(LOG_MSG("model loaded"), LOG_STR("model", v.model_id), LOG_STR("version", v.version),
                     LOG_STR("sha256", v.sha256));
    }
    registry_version_fini(&v);
    *out = w->model;
    return rc;
}

static int no_receiver(void *arg, int64_t ordinal, const uint8_t *map, int width_px, int height_px, struct err *e)
{
    (void)arg, (void)ordinal, (void)map, (void)width_px, (void)height_px;
    return err_set(e, ERR_INTERNAL, "a map that nobody receives");
}

int run_detector(struct run *r, const char *name, int size_px, struct detector **out, struct err *e)
{
    struct worker *w = r->worker;
    struct model *m;
    int rc = run_model(r, name, &m, e);
    if (rc < 0)
        return rc;
    if (w->detector && (w->detector_px != size_px || !detector_ready(w->detector)))
        drop_detector(w);
    if (!w->detector) {
        struct detector_opts o = {.size_px = size_px, .emit = no_receiver};
        rc = detector_open(m, o, &w->detector, e);
        w->detector_px = size_px;
    }
    *out = w->detector;
    return rc;
}

/* ---- one attempt --------------------------------------------------------------------------------------------------- */

static run_fn *runner_of(const char *kind)
{
    static const struct {
        enum job_kind kind;
        run_fn *run;
    } runners[] = {
#define RUNNER(kind_) {JOB_##kind_, run_##kind_},
#include "server/runners.def"
#undef RUNNER
    };
    for (size_t i = 0; i < sizeof(runners) / sizeof(runners[0]); i++)
        if ((int)runners[i].kind == job_kind_parse(kind))
            return runners[i].run;
    return NULL;
}

static unsigned runner_kinds(void)
{
    return 0u
#define RUNNER(kind_) | 1u << JOB_##kind_
#include "server/runners.def"
#undef RUNNER
        ;
}

/* Worth another attempt: the reason may be this machine or this moment, not the job. */
static bool worth_retry(int code)
{
    return code == ERR_IO || code == ERR_NETWORK || code == ERR_NOMEM || code == ERR_DEVICE_LOST ||
           code == ERR_INTERNAL;
}

/* Tells the store how the attempt ended; a store that does not take it is asked again until the lease must be gone. */
static int end_attempt(struct worker *w, struct run *r, int rc, char *outputs, struct err *e)
{
    int64_t give_up = clock_mono_ms() + w->opts->lease_s * 1000;
    for (;;) {
        struct err why = {0};
        int told;
        if (rc == 0)
            told = job_publish(w->store, &r->lease, outputs, &why);
        else if (rc == ERR_BUSY)
            told = job_release(w->store, &r->lease, &why);
        else
            told = job_fail(w->store, &r->lease, rc, e->msg, worth_retry(rc), NULL, &why);
        if (told == 0 || told == ERR_CANCELED || told == ERR_LEASE_LOST || clock_mono_ms() > give_up)
            return told;
        log_warn(LOG_MSG("the store does not take the end of an attempt"), LOG_STR("error", why.msg));
        clock_sleep_ms(STORE_RETRY_MS);
    }
}

static void conclude(struct worker *w, struct run *r, int rc, char *outputs, struct err *e)
{
    int verdict = atomic_load(&r->verdict), published = rc;
    if (rc != 0 && verdict != 0)
        rc = verdict;
    if (rc != ERR_CANCELED && rc != ERR_LEASE_LOST)
        published = end_attempt(w, r, rc, outputs, e);
    if (rc == 0 && published == 0) {
        log_info(LOG_MSG("job succeeded"));
        return;
    }
    log_warn(LOG_MSG("attempt ended without a result"), LOG_STR("error", err_name(rc ? rc : published)),
             LOG_STR("detail", e->msg));
    blob_delete_prefix(w->blobs, r->prefix, NULL, NULL);
}

static void set_run(struct worker *w, struct run *r)
{
    pthread_mutex_lock(&w->lock);
    w->run = r;
    pthread_mutex_unlock(&w->lock);
}

static void run_job(struct worker *w, const struct job *job)
{
    struct run r = {.store = w->store,
                    .blobs = w->blobs,
                    .job = job,
                    .lease = job_lease_of(job),
                    .models = {w->blobs, w->opts->models, w->models_dir},
                    .scratch_dir = w->cache_dir,
                    .limits = w->limits,
                    .device = w->device,
                    .worker = w};
    struct err e = {0};
    char *outputs = NULL;
    snprintf(r.prefix, sizeof(r.prefix), "jobs/%s/%lld/", job->id, (long long)job->epoch);
    log_context("job", job->id);
    log_context("traceparent", job->traceparent);
    log_info(LOG_MSG("attempt begins"), LOG_STR("kind", job->kind), LOG_INT("attempt", job->attempt),
             LOG_INT("epoch", job->epoch));
    set_run(w, &r);
    run_fn *run = runner_of(job->kind);
    int rc = run ? run(&r, &outputs, &e) : err_set(&e, ERR_UNSUPPORTED, "this worker runs no %s jobs", job->kind);
    conclude(w, &r, rc, outputs, &e);
    set_run(w, NULL);
    free(outputs);
    log_context("job", NULL);
    log_context("traceparent", NULL);
    if (rc == ERR_DEVICE_LOST)
        exit(2); /* only a new process gets the device back */
}

/* ---- beating ------------------------------------------------------------------------------------------------------- */

static void beat_once(struct worker *w)
{
    struct worker_record rec = {.id = w->id,
                                .host = w->host,
                                .pid = getpid(),
                                .device = (char *)(uintptr_t)w->opts->device,
                                .started_ms = w->started_ms,
                                .draining = atomic_load(&terminations) > 0};
    pthread_mutex_lock(&w->lock);
    struct run *r = w->run;
    if (r) {
        rec.job_id = r->lease.id;
        take_verdict(r, job_heartbeat(w->store, &r->lease, NULL));
    }
    struct err e = {0};
    if (worker_beat(w->store, &rec, &e) < 0)
        log_warn(LOG_MSG("cannot beat"), LOG_STR("error", e.msg));
    pthread_mutex_unlock(&w->lock);
}

static void *beat_main(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        beat_once(w);
        int64_t end = clock_mono_ms() + BEAT_MS;
        struct timespec ts = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
        pthread_mutex_lock(&w->lock);
        if (!w->stopping)
            pthread_cond_timedwait(&w->stop_beat, &w->lock, &ts);
        bool stopping = w->stopping;
        pthread_mutex_unlock(&w->lock);
        if (stopping)
            return NULL;
    }
}

static int start_beating(struct worker *w, struct err *e)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->stop_beat, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&w->beat, NULL, beat_main, w) != 0)
        return err_set(e, ERR_NOMEM, "cannot start the heartbeat");
    return 0;
}

static void stop_beating(struct worker *w)
{
    pthread_mutex_lock(&w->lock);
    w->stopping = true;
    pthread_cond_signal(&w->stop_beat);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->beat, NULL);
}

/* ---- the process --------------------------------------------------------------------------------------------------- */

static int open_worker(struct worker *w, struct err *e)
{
    const struct worker_opts *o = w->opts;
    struct blobs_opts bo = {.min_free_bytes = o->min_free_bytes};
    if (o->id && *o->id)
        snprintf(w->id, sizeof(w->id), "%s", o->id);
    else
        id_new(w->id);
    if (o->cache)
        snprintf(w->cache_dir, sizeof(w->cache_dir), "%s", o->cache);
    else
        snprintf(w->cache_dir, sizeof(w->cache_dir), "/var/tmp/salient-%d", (int)getuid());
    snprintf(w->models_dir, sizeof(w->models_dir), "%s/models", w->cache_dir);
    gethostname(w->host, sizeof(w->host) - 1);
    w->started_ms = clock_wall_ms();
    int threads = o->threads > 0 ? (int)o->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    tensor_set_threads(threads);
    par_init(threads);
    int rc = media_limits(&o->media, &w->limits, e);
    if (rc == 0)
        rc = tensor_device_parse(o->device, &w->device, e);
    if (rc == 0)
        rc = store_open(o->db, NULL, &w->store, e);
    if (rc == 0)
        rc = blobs_open(o->blobs, &bo, &w->blobs, e);
    wake_store = w->store;
    return rc == 0 ? models_register(w->store, o->models, e) : rc;
}

static void catch_signals(void)
{
    struct sigaction sa = {.sa_handler = on_terminate, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGINT, &sa, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

static void work(struct worker *w)
{
    while (atomic_load(&terminations) == 0) {
        struct job job = {0};
        struct err e = {0};
        int rc = job_claim(w->store, w->id, runner_kinds(), w->opts->lease_s * 1000, &job, &e);
        if (rc == 1) {
            run_job(w, &job);
            job_fini(&job);
            continue;
        }
        if (rc == 0)
            rc = store_wait(w->store, STORE_TOPIC_QUEUE, IDLE_WAIT_MS, &e);
        if (rc < 0) {
            log_warn(LOG_MSG("cannot claim"), LOG_STR("error", e.msg));
            clock_sleep_ms(STORE_RETRY_MS);
        }
    }
}

int worker_run(const struct worker_opts *opts, struct err *e)
{
    struct worker w = {.opts = opts};
    catch_signals();
    int rc = open_worker(&w, e);
    log_context("worker", w.id);
    if (rc == 0)
        rc = start_beating(&w, e);
    if (rc == 0) {
        log_info(LOG_MSG("worker ready"), LOG_STR("device", opts->device), LOG_STR("tensor", tensor_version()));
        work(&w);
        stop_beating(&w);
        worker_remove(w.store, w.id, NULL);
        log_info(LOG_MSG("worker ends"));
    }
    detector_free(w.detector);
    model_close(w.model);
    wake_store = NULL;
    store_close(w.store);
    blobs_close(w.blobs);
    return rc;
}
