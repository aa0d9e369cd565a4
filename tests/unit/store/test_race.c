/*
 * Many threads and processes on one database: every job is claimed once per attempt, published once, and ends in one final state; creation
 * with one key makes one job; a killed process loses nothing it acknowledged and blocks nobody.
 */
#include "tests/unit/store/harness.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define THREADS 6
#define JOBS 120

static struct store *s;
static char url[URL_MAX];

static int setup(void **state)
{
    (void)state;
    s = open_fresh(NULL, url);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(s);
    return 0;
}

/* Takes jobs until none is left; the outputs say who did it. Every tenth fails for another try. */
static int work(struct store *store, const char *me)
{
    int did = 0;
    struct err e = {0};
    for (struct job j;; did++) {
        int rc = job_claim(store, me, JOB_KINDS_ALL, 60000, &j, &e);
        if (rc <= 0)
            return rc < 0 ? rc : did;
        struct job_lease l = job_lease_of(&j);
        job_fini(&j);
        char out[64];
        snprintf(out, sizeof(out), "{\"by\":\"%s\"}", me);
        rc = did % 10 == 9 ? job_fail(store, &l, ERR_IO, "try again", true, NULL, &e) : job_publish(store, &l, out, &e);
        if (rc)
            return rc;
    }
}

/* What must hold when all is done: each job succeeded, and epoch == number of claims it took. */
static void check_all_done(int want)
{
    struct job_list l;
    OK(job_list(s, NULL, NULL, 1000, &l, &err));
    assert_int_equal(l.n, want);
    for (size_t i = 0; i < l.n; i++) {
        assert_string_equal(l.items[i].state, "succeeded");
        assert_int_equal(l.items[i].output_epoch, l.items[i].epoch);
        struct event_list ev;
        int runs = 0, ends = 0;
        OK(job_events(s, l.items[i].id, 0, 1000, &ev, &err));
        for (size_t k = 0; k < ev.n; k++) {
            runs += strstr(ev.items[k].data, "\"running\"") != NULL;
            ends += strstr(ev.items[k].data, "\"succeeded\"") != NULL;
        }
        event_list_fini(&ev);
        assert_int_equal(runs, l.items[i].epoch);
        assert_int_equal(ends, 1);
    }
    job_list_fini(&l);
}

static void queue_jobs(int n)
{
    for (int i = 0; i < n; i++) {
        struct job_new j = {.kind = JOB_saliency, .max_attempts = 1000, .tenant = i % 3 ? "a" : "b"};
        struct job made = make_job(s, &j);
        job_fini(&made);
    }
}

static void *work_thread(void *arg)
{
    char me[32];
    snprintf(me, sizeof(me), "t%d", (int)(intptr_t)arg);
    return (void *)(intptr_t)work(s, me);
}

static void test_threads(void **state)
{
    (void)state;
    queue_jobs(JOBS);
    pthread_t t[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, work_thread, (void *)(intptr_t)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *rc;
        pthread_join(t[i], &rc);
        assert_true((intptr_t)rc >= 0);
    }
    check_all_done(JOBS);
}

/* Runs fn in a child with a store of its own. */
static pid_t spawn(int (*fn)(struct store *, const char *), const char *arg)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid > 0)
        return pid;
    struct store *own;
    if (store_open(url, NULL, &own, NULL))
        _exit(101);
    int rc = fn(own, arg);
    _exit(rc < 0 ? 102 : 0);
}

static int wait_status(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0)
        continue;
    return status;
}

static void test_processes(void **state)
{
    (void)state;
    queue_jobs(JOBS);
    pid_t pid[4];
    for (int i = 0; i < 4; i++) {
        char me[8];
        snprintf(me, sizeof(me), "p%d", i);
        pid[i] = spawn(work, me);
    }
    for (int i = 0; i < 4; i++)
        assert_int_equal(wait_status(pid[i]), 0);
    check_all_done(JOBS);
}

static void *create_thread(void *arg)
{
    struct job_new n = {.kind = JOB_saliency, .idempotency_key = "one", .request_hash = "h"};
    return (void *)(intptr_t)job_create(s, &n, arg, NULL, NULL);
}

static void test_one_key(void **state)
{
    (void)state;
    pthread_t t[THREADS];
    struct job j[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&t[i], NULL, create_thread, &j[i]);
    for (int i = 0; i < THREADS; i++) {
        void *rc;
        pthread_join(t[i], &rc);
        assert_int_equal((intptr_t)rc, 0);
        assert_string_equal(j[i].id, j[0].id);
    }
    for (int i = 0; i < THREADS; i++)
        job_fini(&j[i]);
    struct store_counts c;
    OK(store_counts(s, &c, &err));
    assert_int_equal(c.jobs[JOB_STATE_queued][JOB_saliency], 1);
}

static int open_only(struct store *store, const char *arg)
{
    (void)arg;
    return store_check(store, NULL);
}

/* Several processes meet an empty database at once. */
static void test_first_open(void **state)
{
    (void)state;
    backend->fresh(url);
    pid_t pid[5];
    for (int i = 0; i < 5; i++)
        pid[i] = spawn(open_only, NULL);
    for (int i = 0; i < 5; i++)
        assert_int_equal(wait_status(pid[i]), 0);
}

/* Creates jobs for ever, writing each acknowledged id to the pipe. */
static int chatty(struct store *store, const char *fd)
{
    for (;;) {
        struct job_new n = {.kind = JOB_saliency};
        struct job j;
        if (job_create(store, &n, &j, NULL, NULL))
            return -1;
        if (write(atoi(fd), j.id, ID_SIZE) != ID_SIZE)
            return -1;
        job_fini(&j);
    }
}

/* kill -9 in the middle of writing: all that was acknowledged is there, nothing is half there, and nobody has to wait. */
static void test_killed_writer(void **state)
{
    (void)state;
    int acknowledged = 0;
    for (int round = 0; round < 5; round++) {
        int fds[2];
        assert_int_equal(pipe(fds), 0);
        char fd[16];
        snprintf(fd, sizeof(fd), "%d", fds[1]);
        pid_t pid = spawn(chatty, fd);
        close(fds[1]);
        clock_sleep_ms(60 + 17 * round);
        kill(pid, SIGKILL);
        assert_true(WIFSIGNALED(wait_status(pid)));
        char id[ID_SIZE];
        while (read(fds[0], id, sizeof(id)) == (ssize_t)sizeof(id)) {
            expect_state(s, id, "queued");
            acknowledged++;
        }
        close(fds[0]);
        int64_t t0 = clock_mono_ms();
        OK(store_check(s, &err));
        assert_true(clock_mono_ms() - t0 < 3000);
    }
    assert_true(acknowledged > 0);
    struct job_list l;
    OK(job_list(s, NULL, NULL, 1000, &l, &err));
    for (size_t i = 0; i < l.n; i++) { /* no job without its event */
        struct event_list ev;
        OK(job_events(s, l.items[i].id, 0, 10, &ev, &err));
        assert_int_equal(ev.n, 1);
        event_list_fini(&ev);
    }
    job_list_fini(&l);
}

static int claim_and_hang(struct store *store, const char *fd)
{
    struct job j;
    if (job_claim(store, "doomed", JOB_KINDS_ALL, 100, &j, NULL) != 1 || write(atoi(fd), "x", 1) != 1)
        return -1;
    pause();
    return 0;
}

/* A worker is killed with a job in hand: the reaper gives it to the next one, once. */
static void test_killed_worker(void **state)
{
    (void)state;
    queue_jobs(1);
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    char fd[16], x;
    snprintf(fd, sizeof(fd), "%d", fds[1]);
    pid_t pid = spawn(claim_and_hang, fd);
    assert_int_equal(read(fds[0], &x, 1), 1);
    kill(pid, SIGKILL);
    wait_status(pid);
    close(fds[0]);
    close(fds[1]);
    int64_t requeued = 0;
    for (int i = 0; i < 200 && !requeued; i++) {
        struct job_reaped got;
        OK(jobs_reap(s, &got, &err));
        requeued += got.requeued;
        clock_sleep_ms(10);
    }
    assert_int_equal(requeued, 1);
    assert_int_equal(work(s, "next"), 1);
    check_all_done(1);
}

static int reap_for_a_while(struct store *store, const char *arg)
{
    (void)arg;
    for (int i = 0; i < 60; i++) {
        if (jobs_reap(store, NULL, NULL))
            return -1;
        clock_sleep_ms(5);
    }
    return 0;
}

/* Several reapers at once requeue a lost job once. */
static void test_many_reapers(void **state)
{
    (void)state;
    queue_jobs(3);
    for (int i = 0; i < 3; i++)
        claim_lease(s, "gone", 50);
    pid_t pid[3];
    for (int i = 0; i < 3; i++)
        pid[i] = spawn(reap_for_a_while, NULL);
    for (int i = 0; i < 3; i++)
        assert_int_equal(wait_status(pid[i]), 0);
    struct store_counts c;
    OK(store_counts(s, &c, &err));
    assert_int_equal(c.requeued, 3);
    assert_int_equal(c.jobs[JOB_STATE_queued][JOB_saliency], 3);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_threads),       T(test_processes),     T(test_one_key),      T(test_first_open),
        T(test_killed_writer), T(test_killed_worker), T(test_many_reapers),
    };
    RUN_OVER_BACKENDS(tests);
}
