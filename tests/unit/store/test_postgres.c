/* What only a server can do to us: go away, come back, crash in the middle of everything. */
#include "tests/unit/store/harness.h"

static char url[URL_MAX];

static void test_restart(void **state)
{
    (void)state;
    struct store *s = open_fresh(NULL, url);
    struct job j = plain_job(s);
    static const int signals[] = {SIGINT, SIGKILL};
    for (int i = 0; i < 2; i++) {
        postgres_end(signals[i]);
        int64_t t0 = clock_mono_ms();
        assert_int_equal(store_check(s, &err), ERR_NETWORK);
        struct job g;
        assert_int_equal(job_get(s, j.id, &g, &err), ERR_NETWORK);
        assert_true(clock_mono_ms() - t0 < 3000);
        postgres_start();
        OK(i == 0 ? store_check(s, &err) : job_get(s, j.id, &g, &err)); /* a write and a read find their way back */
        expect_state(s, j.id, "queued");
        if (i == 1)
            job_fini(&g);
    }
    store_close(s);
    job_fini(&j);
}

static void test_wait_survives(void **state)
{
    (void)state;
    struct store *s = open_fresh(NULL, url);
    while (store_wait(s, STORE_TOPIC_EVENTS, 0, &err) == 1)
        continue;
    postgres_end(SIGINT);
    assert_int_equal(store_wait(s, STORE_TOPIC_EVENTS, 2000, &err), ERR_NETWORK);
    postgres_start();
    assert_int_equal(store_wait(s, STORE_TOPIC_EVENTS, 2000, &err), 1); /* something may have been missed */
    struct job j = plain_job(s);
    assert_int_equal(store_wait(s, STORE_TOPIC_EVENTS, 2000, &err), 1);
    job_fini(&j);
    store_close(s);
}

/* A worker that takes the loss of the database as a reason to try again. */
static void stubborn_worker(const char *me)
{
    struct store *own = NULL;
    struct err e;
    for (int idle = 0; idle < 40;) {
        struct job j = {0};
        int rc = own || store_open(url, NULL, &own, &e) == 0 ? job_claim(own, me, JOB_KINDS_ALL, 400, &j, &e) : -1;
        if (rc == 1) {
            struct job_lease l = job_lease_of(&j);
            clock_sleep_ms(2);
            while ((rc = job_publish(own, &l, "{}", &e)) == ERR_NETWORK || rc == ERR_BUSY)
                clock_sleep_ms(20);
            idle = 0;
        } else {
            if (own)
                jobs_reap(own, NULL, NULL);
            clock_sleep_ms(25);
            idle += rc == 0;
        }
        job_fini(&j);
    }
    store_close(own);
}

static void test_crash_under_load(void **state)
{
    (void)state;
    enum { JOBS = 150, WORKERS = 3 };
    struct store *s = open_fresh(NULL, url);
    for (int i = 0; i < JOBS; i++) {
        struct job_new n = {.kind = JOB_saliency, .max_attempts = 100};
        struct job j = make_job(s, &n);
        job_fini(&j);
    }
    pid_t pid[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            char me[8];
            snprintf(me, sizeof(me), "w%d", i);
            stubborn_worker(me);
            _exit(0);
        }
    }
    for (int i = 0; i < 2; i++) {
        clock_sleep_ms(120);
        postgres_end(SIGKILL);
        postgres_start();
    }
    for (int i = 0; i < WORKERS; i++)
        assert_int_equal(pg_wait(pid[i]), 0);
    struct store_counts c;
    OK(store_counts(s, &c, &err));
    assert_int_equal(c.jobs[JOB_STATE_succeeded][JOB_saliency], JOBS);
    struct job_list l;
    OK(job_list(s, NULL, NULL, 1000, &l, &err));
    for (size_t i = 0; i < l.n; i++) {
        struct event_list ev;
        int ends = 0;
        OK(job_events(s, l.items[i].id, 0, 1000, &ev, &err));
        for (size_t k = 0; k < ev.n; k++)
            ends += strstr(ev.items[k].data, "\"succeeded\"") != NULL;
        assert_int_equal(ends, 1);
        event_list_fini(&ev);
    }
    job_list_fini(&l);
    store_close(s);
}

static void test_unreachable(void **state)
{
    (void)state;
    struct store *s;
    assert_int_equal(store_open("postgresql://u:secret@127.0.0.1:1/x", NULL, &s, &err), ERR_NETWORK);
    assert_null(strstr(err.msg, "secret"));
    assert_null(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_wait_survives),
        cmocka_unit_test(test_crash_under_load),
        cmocka_unit_test(test_unreachable),
    };
    backend = &backends[1];
    if (!backend->available())
        return 0;
    temp_make();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    postgres_stop();
    temp_remove();
    return failed;
}
