/*
 * Wires the service together. Start: store, decoder and workers, api, HTTP. Stop: not ready, no new jobs, streams closed; workers
 * finish what they run within the grace time or give it back; requests are answered; then everything ends in reverse.
 */
#include "server/service.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/api.h"
#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "core/store/access.h"
#include "core/task/models.h"
#include "core/task/retrain.h"
#include "server/decoder.h"
#include "server/httpd.h"
#include "server/importer.h"
#include "server/listen.h"
#include "server/supervisor.h"

#define REFRESH_MS 250
#define REAP_MS 1000
#define TRAIN_MS 3000
#define SWEEP_MS 60000
#define DEEP_SWEEP_MS 3600000
#define ORPHAN_GRACE_MS 3600000
#define GIVE_BACK_MS 5000 /* after the grace time: to hand jobs back */
#define ANSWER_MS 10000   /* for requests under way when everything else has stopped */
#define DECODER_NICE 2
#define WORKER_NICE 5 /* the service answers while workers use every core */

struct service {
    const struct service_opts *opts;
    char db[FS_PATH_MAX + 8], blobs_url[FS_PATH_MAX], cache[FS_PATH_MAX], threads[24], lease[24], min_free[24];
    struct media_args media;
    struct store *store;
    struct blobs *blobs;
    struct decoder decoder;
    struct supervisor *supervisor;
    struct api *api;
    struct httpd *httpd;
    atomic_bool draining, sweep_soon;
    bool local; /* listens on loopback only */
    /* housekeeping */
    pthread_t keeper;
    bool keeping;
    pthread_mutex_t lock;
    pthread_cond_t stop_keeping;
    bool stopping;
};

/* ---- what api/ asks of the process --------------------------------------------------------------------------------- */

static int host_workers_alive(void *arg)
{
    return supervisor_alive(((struct service *)arg)->supervisor, "worker");
}

static bool host_draining(void *arg)
{
    return atomic_load(&((struct service *)arg)->draining);
}

static int host_connections(void *arg)
{
    return httpd_connections(((struct service *)arg)->httpd);
}

static int host_probe(void *arg, const char *path, bool count, struct clip_info *info, struct err *e)
{
    return decoder_probe(&((struct service *)arg)->decoder, path, count, info, e);
}

static int host_still(void *arg, const char *path, int64_t n, struct buf *jpeg, struct err *e)
{
    return decoder_still(&((struct service *)arg)->decoder, path, n, jpeg, e);
}

static int host_weights(void *arg, const char *path, const char *arch, const char *out, struct err *e)
{
    (void)arg;
    return importer_run(path, arch, out, e);
}

static void host_metrics(void *arg, struct buf *out)
{
    supervisor_metrics(((struct service *)arg)->supervisor, out);
}

/* ---- housekeeping -------------------------------------------------------------------------------------------------- */

static void reap(struct service *s)
{
    struct job_reaped reaped = {0};
    struct err e = {0};
    if (jobs_reap(s->store, &reaped, &e) < 0)
        log_warn(LOG_MSG("cannot reap"), LOG_STR("error", e.msg));
    else if (reaped.requeued || reaped.failed)
        log_warn(LOG_MSG("workers went silent"), LOG_INT("requeued", reaped.requeued),
                 LOG_INT("failed", reaped.failed));
    if (reaped.requeued || reaped.failed)
        atomic_store(&s->sweep_soon, true);
}

/* Once after the start; where storage is tight the built-in models stay what they are, files of this installation. */
static void keep_models(struct service *s)
{
    struct err e = {0};
    if (models_keep(s->store, s->blobs, s->opts->models, &e) < 0)
        log_warn(LOG_MSG("built-in models are not copied to the blobs"), LOG_STR("error", e.msg));
}

static void train_by_itself(struct service *s)
{
    struct err e = {0};
    if (retrain_auto(s->store, s->opts->model, NULL, &e) < 0)
        log_warn(LOG_MSG("cannot look for projects to train"), LOG_STR("error", e.msg));
}

static void sweep(struct service *s, bool deep)
{
    struct store_sweep done = {0};
    struct err e = {0};
    if (store_sweep(s->store, s->blobs, deep, ORPHAN_GRACE_MS, &done, &e) < 0)
        log_warn(LOG_MSG("cannot sweep"), LOG_STR("error", e.msg));
    else if (done.jobs || done.clips || done.blobs || done.orphans)
        log_info(LOG_MSG("swept"), LOG_INT("jobs", done.jobs), LOG_INT("clips", done.clips),
                 LOG_INT("blobs", done.blobs), LOG_INT("orphans", done.orphans));
}

/* True when the service stops. */
static bool rest(struct service *s)
{
    int64_t end = clock_mono_ms() + REFRESH_MS;
    struct timespec ts = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    pthread_mutex_lock(&s->lock);
    if (!s->stopping)
        pthread_cond_timedwait(&s->stop_keeping, &s->lock, &ts);
    bool stopping = s->stopping;
    pthread_mutex_unlock(&s->lock);
    return stopping;
}

static void *keep(void *arg)
{
    struct service *s = arg;
    int64_t reaped = 0, swept = 0, deep = clock_mono_ms(), trained = 0;
    bool kept = false;
    while (!rest(s)) {
        int64_t now = clock_mono_ms();
        api_refresh(s->api);
        decoder_tidy(&s->decoder);
        if (now - reaped >= REAP_MS) {
            reap(s);
            store_tidy(s->store, NULL); /* a store that fails tells it elsewhere */
            reaped = now;
        }
        if (now - swept >= SWEEP_MS || atomic_exchange(&s->sweep_soon, false)) {
            bool all = now - deep >= DEEP_SWEEP_MS;
            sweep(s, all);
            swept = now;
            deep = all ? now : deep;
        }
        if (now - trained >= TRAIN_MS) {
            train_by_itself(s);
            trained = now;
        }
        if (!kept)
            keep_models(s);
        kept = true;
    }
    return NULL;
}

static int start_keeping(struct service *s, struct err *e)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->stop_keeping, &attr);
    pthread_condattr_destroy(&attr);
    if (pthread_create(&s->keeper, NULL, keep, s) != 0)
        return err_set(e, ERR_NOMEM, "cannot start housekeeping");
    s->keeping = true;
    return 0;
}

static void stop_keeping(struct service *s)
{
    if (!s->keeping)
        return;
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->stop_keeping);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->keeper, NULL);
}

/* ---- starting ------------------------------------------------------------------------------------------------------ */

/* Fills the URLs; relative paths become absolute, for workers are told them too. */
static int resolve_data(struct service *s, struct err *e)
{
    const struct service_opts *o = s->opts;
    char data[FS_PATH_MAX];
    int rc = fs_mkdirs(o->data, e);
    if (rc < 0)
        return err_wrap(e, "data directory");
    if (!realpath(o->data, data))
        return err_errno(e, "data directory %s", o->data);
    rc = fs_join(s->cache, data, "cache", e);
    if (rc < 0)
        return rc;
    if (o->db)
        snprintf(s->db, sizeof(s->db), "%s", o->db);
    else
        snprintf(s->db, sizeof(s->db), "sqlite:%s/salient.db", data);
    return o->blobs ? (snprintf(s->blobs_url, sizeof(s->blobs_url), "%s", o->blobs), 0)
                    : fs_join(s->blobs_url, data, "blobs", e);
}

static int open_store(struct service *s, struct err *e)
{
    const struct service_opts *o = s->opts;
    struct store_opts so = {.queue_limit = o->queue_limit, .retention_ms = o->retention_s * 1000};
    struct blobs_opts bo = {.min_free_bytes = o->min_free_bytes};
    int rc = resolve_data(s, e);
    if (rc == 0)
        rc = store_open(s->db, &so, &s->store, e);
    if (rc == 0)
        rc = blobs_open(s->blobs_url, &bo, &s->blobs, e);
    return rc == 0 ? models_register(s->store, o->models, e) : rc;
}

/* The supervisor saw a worker die: nobody needs to wait for its lease to run out. */
static void worker_ended(void *arg, const char *id, int status)
{
    struct service *s = arg;
    char how[80], reason[120];
    struct job_reaped reaped = {0};
    struct err e = {0};
    supervisor_describe(status, how, sizeof(how));
    snprintf(reason, sizeof(reason), "the worker process ended: %s", how);
    if (jobs_abandon(s->store, id, reason, &reaped, &e) < 0)
        log_warn(LOG_MSG("cannot free the jobs of a dead worker"), LOG_STR("error", e.msg));
    else if (reaped.requeued || reaped.failed)
        log_warn(LOG_MSG("a worker died with a job"), LOG_STR("worker", id), LOG_STR("how", how),
                 LOG_INT("requeued", reaped.requeued), LOG_INT("failed", reaped.failed));
    worker_remove(s->store, id, NULL);
    atomic_store(&s->sweep_soon, true); /* what the attempt had written */
}

static int64_t threads_each(const struct service_opts *o)
{
    int64_t cores = sysconf(_SC_NPROCESSORS_ONLN);
    if (o->threads > 0)
        return o->threads;
    return o->workers > 0 && cores > o->workers ? cores / o->workers : 1;
}

static void add_args(struct child_spec *c, const char *const *args, int n)
{
    int have = 0;
    while (c->args[have])
        have++;
    BUG_ON(have + n >= CHILD_ARGS_MAX);
    for (int i = 0; i < n; i++)
        c->args[have + i] = args[i];
}

static int start_processes(struct service *s, struct err *e)
{
    const struct service_opts *o = s->opts;
    struct child_spec decoder = {
        .role = "decoder", .args = {"decoder"}, .fd3 = s->decoder.child_fd, .nice = DECODER_NICE};
    struct child_spec worker = {
        .role = "worker",
        .args = {"worker", "--db", s->db, "--blobs", s->blobs_url, "--cache", s->cache, "--device", o->device,
                 "--threads", s->threads, "--lease", s->lease, "--min-free", s->min_free, "--log-level", o->log_level,
                 "--id", "{id}"},
        .fd3 = -1,
        .nice = WORKER_NICE,
        .ended = worker_ended,
        .arg = s,
    };
    snprintf(s->threads, sizeof(s->threads), "%lld", (long long)threads_each(o));
    snprintf(s->lease, sizeof(s->lease), "%lld", (long long)o->lease_s);
    snprintf(s->min_free, sizeof(s->min_free), "%lld", (long long)o->min_free_bytes);
    media_args_make(&o->media, &s->media);
    add_args(&worker, s->media.arg, s->media.n);
    if (o->models)
        add_args(&worker, (const char *const[]){"--models", o->models}, 2);
    s->supervisor = supervisor_new();
    if (!s->supervisor)
        return err_set(e, ERR_NOMEM, "no memory for the supervisor");
    int rc = supervisor_add(s->supervisor, &decoder, e);
    for (int64_t i = 0; i < o->workers && rc == 0; i++)
        rc = supervisor_add(s->supervisor, &worker, e);
    return rc;
}

static int start_http(struct service *s, struct err *e)
{
    const struct service_opts *o = s->opts;
    struct api_config cfg = {
        .host = {s, host_workers_alive, host_draining, host_connections, host_probe, host_still, host_weights,
                 host_metrics},
        .store = s->store,
        .blobs = s->blobs,
        .models_dir = o->models,
        .default_model = o->model,
        .max_upload_bytes = o->max_upload_bytes,
        .queue_limit = o->queue_limit,
        .retention_ms = o->retention_s * 1000,
        .max_streams = (int)o->max_streams,
        .open = o->open || s->local,
        .local = s->local && !o->open,
    };
    int rc = api_new(&cfg, &s->api, e);
    if (rc < 0)
        return rc;
    struct httpd_opts h = {.listen = o->listen,
                           .loops = 2,
                           .handlers = (int)o->handlers,
                           .max_connections = (int)o->max_connections,
                           .idle_timeout_s = (int)o->idle_timeout_s,
                           .api = s->api};
    return httpd_start(&h, &s->httpd, e);
}

/* Other machines get in with a key, or because the operator said so. */
static int check_exposure(struct service *s, struct err *e)
{
    int local = listen_is_loopback(s->opts->listen, e);
    struct api_key_list keys;
    if (local < 0)
        return local;
    s->local = local;
    int rc = api_key_list(s->store, &keys, e);
    size_t n = rc == 0 ? keys.n : 0;
    api_key_list_fini(&keys);
    if (rc == 0 && n == 0 && !s->local && !s->opts->open)
        rc = err_set(
            e, ERR_INVALID,
            "%s can be reached from other machines, and there is no API key: make one with `salient key add`, or "
            "say --open",
            s->opts->listen);
    return rc;
}

static int start(struct service *s, struct err *e)
{
    const struct service_opts *o = s->opts;
    struct clip_limits limits;
    int rc = media_limits(&o->media, &limits, e);
    if (rc == 0 && limits.max_bytes == 0)
        limits.max_bytes = o->max_upload_bytes;
    limits.threads = 1;
    if (rc == 0)
        rc = open_store(s, e);
    if (rc == 0)
        rc = check_exposure(s, e);
    if (rc == 0)
        rc = decoder_init(&s->decoder, &limits, e);
    if (rc == 0)
        rc = start_processes(s, e);
    if (rc == 0)
        rc = start_http(s, e);
    return rc == 0 ? start_keeping(s, e) : rc;
}

/* ---- stopping ------------------------------------------------------------------------------------------------------ */

/* Signals are waited for, never handled: no code runs in signal context. */
static void signals_block(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file size limit is an error like a full disk */
}

static void drain(struct service *s)
{
    atomic_store(&s->draining, true);
    api_drain(s->api);
    supervisor_terminate(s->supervisor, "worker");
    if (supervisor_wait(s->supervisor, "worker", s->opts->grace_s * 1000) != 0) {
        log_warn(LOG_MSG("jobs are given back: the grace time is over"));
        supervisor_terminate(s->supervisor, "worker");
        supervisor_wait(s->supervisor, "worker", GIVE_BACK_MS);
    }
    int64_t end = clock_mono_ms() + ANSWER_MS;
    while (httpd_active(s->httpd) > 0 && clock_mono_ms() < end)
        clock_sleep_ms(20);
}

static void stop(struct service *s)
{
    stop_keeping(s);
    httpd_stop(s->httpd);
    supervisor_free(s->supervisor);
    decoder_fini(&s->decoder);
    api_free(s->api);
    blobs_close(s->blobs);
    store_close(s->store);
}

/* For the workers, which would start themselves once more for it: see main.c. */
static void prepare_environment(void)
{
    setenv("GOMP_SPINCOUNT", "5000", 0);
}

int service_run(const struct service_opts *opts, struct err *e)
{
    struct service s = {.opts = opts, .decoder = {-1, -1, {0}, NULL}};
    sigset_t set;
    int sig = 0;
    prepare_environment();
    signals_block(&set);
    int rc = start(&s, e);
    if (rc == 0) {
        log_info(LOG_MSG("listening"), LOG_STR("url", httpd_url(s.httpd)), LOG_STR("data", opts->data));
        sigwait(&set, &sig);
        log_info(LOG_MSG("draining"), LOG_INT("signal", sig));
        drain(&s);
    }
    stop(&s);
    if (rc == 0)
        log_info(LOG_MSG("stopped"));
    return rc;
}
