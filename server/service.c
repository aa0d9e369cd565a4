/* Wires the service together. Start: data directory, api, HTTP. Stop, in reverse, after draining. */
#include "server/service.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "api/api.h"
#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/log.h"
#include "server/httpd.h"

struct service {
    const struct service_opts *opts;
    struct api *api;
    struct httpd *httpd;
    atomic_bool draining;
};

static int host_workers_alive(void *arg)
{
    (void)arg;
    return 0;
}

static bool host_draining(void *arg)
{
    return atomic_load(&((struct service *)arg)->draining);
}

static int host_connections(void *arg)
{
    return httpd_connections(((struct service *)arg)->httpd);
}

static int start(struct service *s, struct err *e)
{
    int rc = fs_mkdirs(s->opts->data, e);
    if (rc < 0)
        return err_wrap(e, "data directory %s", s->opts->data);
    struct api_config cfg = {
        .host = {s, host_workers_alive, host_draining, host_connections},
        .data_dir = s->opts->data,
    };
    rc = api_new(&cfg, &s->api, e);
    if (rc < 0)
        return rc;
    struct httpd_opts h = {.listen = s->opts->listen,
                           .loops = 2,
                           .handlers = (int)s->opts->handlers,
                           .max_connections = (int)s->opts->max_connections,
                           .idle_timeout_s = (int)s->opts->idle_timeout_s,
                           .api = s->api};
    return httpd_start(&h, &s->httpd, e);
}

/* Signals are waited for, never handled: no code runs in signal context. */
static int wait_for_signal(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    int sig = 0;
    sigwait(&set, &sig);
    return sig;
}

static void block_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
}

static void drain(struct service *s)
{
    atomic_store(&s->draining, true);
    int64_t end = clock_mono_ms() + s->opts->grace_s * 1000;
    while (httpd_active(s->httpd) > 0 && clock_mono_ms() < end)
        clock_sleep_ms(20);
}

int service_run(const struct service_opts *opts, struct err *e)
{
    struct service s = {.opts = opts};
    block_signals();
    int rc = start(&s, e);
    if (rc == 0) {
        log_info(LOG_MSG("listening"), LOG_STR("url", httpd_url(s.httpd)), LOG_STR("data", opts->data));
        int sig = wait_for_signal();
        log_info(LOG_MSG("draining"), LOG_INT("signal", sig));
        drain(&s);
    }
    httpd_stop(s.httpd);
    api_free(s.api);
    if (rc == 0)
        log_info(LOG_MSG("stopped"));
    return rc;
}
