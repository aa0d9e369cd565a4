/* One thread per child: start, wait, report, pause, again. The thread that forks must live on, for PR_SET_PDEATHSIG is tied to it. */
#include "server/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/log.h"

#define CHILDREN_MAX 64
#define PAUSE_MIN_MS 200
#define PAUSE_MAX_MS 10000
#define LIVED_MS 10000 /* a child that lived this long did not fail early */

struct child {
    struct supervisor *sup;
    struct child_spec spec;
    pthread_t thread;
    pid_t pid; /* 0: not running */
    char id[ID_SIZE];
    bool stop;
    int64_t starts;
};

struct supervisor {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct child child[CHILDREN_MAX];
    int n;
};

struct supervisor *supervisor_new(void)
{
    struct supervisor *s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, &attr);
    pthread_condattr_destroy(&attr);
    return s;
}

/* Between fork and exec: async-signal-safe calls only. */
__attribute__((noreturn)) static void become(const struct child *c, char *const *argv, pid_t parent)
{
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    setpgid(0, 0); /* a Ctrl-C goes to the service alone, which then drains */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(1);
    if (nice(c->spec.nice) == -1) {
        /* Runs at the service's own priority then. */
    }
    if (c->spec.fd3 >= 0 && dup2(c->spec.fd3, 3) < 0)
        _exit(1);
    close_range(c->spec.fd3 >= 0 ? 4 : 3, ~0U, 0);
    execv("/proc/self/exe", argv);
    _exit(127);
}

/* Called with the lock held. */
static void start(struct child *c)
{
    char *argv[CHILD_ARGS_MAX + 2] = {"salient"};
    id_new(c->id);
    for (int i = 0; c->spec.args[i]; i++)
        argv[i + 1] = strcmp(c->spec.args[i], "{id}") == 0 ? c->id : (char *)(uintptr_t)c->spec.args[i];
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(c, argv, parent);
    if (pid < 0) {
        log_error(LOG_MSG("cannot start a process"), LOG_STR("role", c->spec.role), LOG_STR("error", strerror(errno)));
        return;
    }
    c->pid = pid;
    c->starts++;
    log_info(LOG_MSG("process started"), LOG_STR("role", c->spec.role), LOG_INT("pid", pid), LOG_STR("id", c->id));
    pthread_cond_broadcast(&c->sup->changed);
}

void supervisor_describe(int status, char *out, size_t size)
{
    if (WIFSIGNALED(status))
        snprintf(out, size, "signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
    else
        snprintf(out, size, "exit %d", WEXITSTATUS(status));
}

static void report(struct child *c, pid_t pid, int status, bool expected)
{
    char how[80];
    supervisor_describe(status, how, sizeof(how));
    LOG_AT(expected ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, LOG_MSG("process ended"), LOG_STR("role", c->spec.role),
           LOG_INT("pid", pid), LOG_STR("id", c->id), LOG_STR("how", how));
    if (c->spec.ended)
        c->spec.ended(c->spec.arg, c->id, status);
}

/* Waits on the condition for at most ms; the lock is held. */
static void pause_ms(struct child *c, int64_t ms)
{
    int64_t end = clock_mono_ms() + ms;
    struct timespec ts = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    while (!c->stop && clock_mono_ms() < end)
        if (pthread_cond_timedwait(&c->sup->changed, &c->sup->lock, &ts) == ETIMEDOUT)
            return;
}

static void *watch_child(void *arg)
{
    struct child *c = arg;
    struct supervisor *s = c->sup;
    int64_t pause = 0;
    pthread_mutex_lock(&s->lock);
    while (!c->stop) {
        int64_t began = clock_mono_ms();
        start(c);
        pid_t pid = c->pid;
        pthread_mutex_unlock(&s->lock);
        int status = 0;
        while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
        pthread_mutex_lock(&s->lock);
        c->pid = 0;
        bool stop = c->stop;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
        if (pid > 0)
            report(c, pid, status, stop);
        pthread_mutex_lock(&s->lock);
        bool early = clock_mono_ms() - began < LIVED_MS;
        pause = !early || pause == 0 ? PAUSE_MIN_MS : pause * 2 < PAUSE_MAX_MS ? pause * 2 : PAUSE_MAX_MS;
        pause_ms(c, pause);
    }
    pthread_mutex_unlock(&s->lock);
    return NULL;
}

int supervisor_add(struct supervisor *s, const struct child_spec *spec, struct err *e)
{
    if (s->n == CHILDREN_MAX)
        return err_set(e, ERR_LIMIT, "more than %d processes", CHILDREN_MAX);
    struct child *c = &s->child[s->n];
    *c = (struct child){.sup = s, .spec = *spec};
    if (pthread_create(&c->thread, NULL, watch_child, c) != 0)
        return err_set(e, ERR_NOMEM, "cannot watch a process");
    pthread_mutex_lock(&s->lock);
    s->n++;
    pthread_mutex_unlock(&s->lock);
    return 0;
}

static bool has_role(const struct child *c, const char *role)
{
    return !role || strcmp(c->spec.role, role) == 0;
}

static int alive(const struct supervisor *s, const char *role)
{
    int n = 0;
    for (int i = 0; i < s->n; i++)
        n += has_role(&s->child[i], role) && s->child[i].pid > 0;
    return n;
}

int supervisor_alive(struct supervisor *s, const char *role)
{
    pthread_mutex_lock(&s->lock);
    int n = alive(s, role);
    pthread_mutex_unlock(&s->lock);
    return n;
}

static void signal_role(struct supervisor *s, const char *role, int sig)
{
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n; i++)
        if (has_role(&s->child[i], role)) {
            s->child[i].stop = true;
            if (s->child[i].pid > 0)
                kill(s->child[i].pid, sig);
        }
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

void supervisor_terminate(struct supervisor *s, const char *role)
{
    signal_role(s, role, SIGTERM);
}

int supervisor_wait(struct supervisor *s, const char *role, int64_t timeout_ms)
{
    int64_t end = clock_mono_ms() + timeout_ms;
    struct timespec ts = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};
    pthread_mutex_lock(&s->lock);
    while (alive(s, role) > 0 && clock_mono_ms() < end)
        pthread_cond_timedwait(&s->changed, &s->lock, &ts);
    int left = alive(s, role);
    pthread_mutex_unlock(&s->lock);
    return left ? ERR_TIMEOUT : 0;
}

void supervisor_free(struct supervisor *s)
{
    if (!s)
        return;
    signal_role(s, NULL, SIGKILL);
    for (int i = 0; i < s->n; i++)
        pthread_join(s->child[i].thread, NULL);
    pthread_mutex_destroy(&s->lock);
    pthread_cond_destroy(&s->changed);
    free(s);
}

static int64_t resident_bytes(pid_t pid)
{
    char path[64];
    long pages = 0;
    snprintf(path, sizeof(path), "/proc/%d/statm", (int)pid);
    FILE *f = fopen(path, "re");
    if (f && fscanf(f, "%*d %ld", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

void supervisor_metrics(struct supervisor *s, struct buf *out)
{
    buf_puts(out, "# HELP salient_process_resident_bytes Resident memory of the service's processes.\n"
                  "# TYPE salient_process_resident_bytes gauge\n");
    buf_printf(out, "salient_process_resident_bytes{role=\"serve\"} %lld\n", (long long)resident_bytes(getpid()));
    pthread_mutex_lock(&s->lock);
    for (int i = 0; i < s->n; i++)
        if (s->child[i].pid > 0)
            buf_printf(out, "salient_process_resident_bytes{role=\"%s\",slot=\"%d\"} %lld\n", s->child[i].spec.role, i,
                       (long long)resident_bytes(s->child[i].pid));
    buf_puts(out, "# HELP salient_process_starts_total Times a process was started.\n"
                  "# TYPE salient_process_starts_total counter\n");
    for (int i = 0; i < s->n; i++)
        buf_printf(out, "salient_process_starts_total{role=\"%s\",slot=\"%d\"} %lld\n", s->child[i].spec.role, i,
                   (long long)s->child[i].starts);
    pthread_mutex_unlock(&s->lock);
}
