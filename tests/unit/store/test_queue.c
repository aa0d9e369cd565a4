/* The queue as one caller sees it: the state table, leases, idempotency, limits, fairness, lists, events, retention. */
#include "tests/unit/store/harness.h"

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
    s = NULL;
    return 0;
}

/* Brings a new job to `state` and returns the lease it has or had. */
static struct job_lease job_in(enum job_state state)
{
    struct job j = plain_job(s);
    struct job_lease l = job_lease_of(&j);
    job_fini(&j);
    if (state == JOB_STATE_queued)
        return l;
    if (state == JOB_STATE_canceled) {
        OK(job_cancel(s, l.id, NULL, &err));
        return l;
    }
    l = claim_lease(s, "w", 60000);
    if (state == JOB_STATE_succeeded)
        OK(job_publish(s, &l, "{}", &err));
    if (state == JOB_STATE_failed)
        OK(job_fail(s, &l, ERR_CORRUPT, "broken", false, NULL, &err));
    return l;
}

enum action { ACT_CLAIM, ACT_PUBLISH, ACT_FAIL, ACT_RETRY, ACT_RELEASE, ACT_CANCEL, ACT_COUNT };

static int act(enum action a, const struct job_lease *l)
{
    struct job j = {0};
    int rc = 0;
    switch (a) {
    case ACT_CLAIM:
        rc = job_claim(s, "other", JOB_KINDS_ALL, 60000, &j, &err) == 1 ? 0 : ERR_NOTFOUND;
        break;
    case ACT_PUBLISH:
        rc = job_publish(s, l, "{\"n\":1}", &err);
        break;
    case ACT_FAIL:
        rc = job_fail(s, l, ERR_IO, "x", false, NULL, &err);
        break;
    case ACT_RETRY:
        rc = job_fail(s, l, ERR_IO, "x", true, NULL, &err);
        break;
    case ACT_RELEASE:
        rc = job_release(s, l, &err);
        break;
    case ACT_CANCEL:
        rc = job_cancel(s, l->id, NULL, &err);
        break;
    case ACT_COUNT:
        break;
    }
    job_fini(&j);
    return rc;
}

/* Every action in every state: either the legal move, or a refusal that changes nothing. */
static void test_state_table(void **state)
{
    (void)state;
    static const char *const result[ACT_COUNT][JOB_STATE_COUNT] = {
        /*              queued      running      succeeded failed canceled */
        [ACT_CLAIM] = {"running", NULL, NULL, NULL, NULL},
        [ACT_PUBLISH] = {NULL, "succeeded", NULL, NULL, NULL},
        [ACT_FAIL] = {NULL, "failed", NULL, NULL, NULL},
        [ACT_RETRY] = {NULL, "queued", NULL, NULL, NULL},
        [ACT_RELEASE] = {NULL, "queued", NULL, NULL, NULL},
        [ACT_CANCEL] = {"canceled", "canceled", NULL, NULL, "canceled"},
    };
    for (int a = 0; a < ACT_COUNT; a++)
        for (int from = 0; from < JOB_STATE_COUNT; from++) {
            struct job_lease l = job_in(from);
            int rc = act(a, &l);
            const char *want = result[a][from];
            if ((rc == 0) != (want != NULL))
                fail_msg("action %d in state %s: %d", a, job_state_name(from), rc);
            expect_state(s, l.id, want ? want : job_state_name(from));
            OK(job_delete(s, l.id, &err));
        }
}

static void test_create_and_get(void **state)
{
    (void)state;
    struct job_new n = {.kind = JOB_train,
                        .params = "{\"epochs\":3}",
                        .model = "rcrnet-lite",
                        .project_id = "p1",
                        .tenant = "key1",
                        .priority = 5,
                        .max_attempts = 2,
                        .progress_total = 100,
                        .webhook_url = "https://example.org/'hook\"",
                        .traceparent = "00-1-2-01"};
    struct job j = make_job(s, &n), g;
    OK(job_get(s, j.id, &g, &err));
    assert_string_equal(g.kind, "train");
    assert_string_equal(g.state, "queued");
    assert_string_equal(g.progress_unit, "steps");
    assert_string_equal(g.params, n.params);
    assert_string_equal(g.webhook_url, n.webhook_url);
    assert_string_equal(g.traceparent, n.traceparent);
    assert_int_equal(g.priority, 5);
    assert_int_equal(g.max_attempts, 2);
    assert_int_equal(g.progress_total, 100);
    assert_int_equal(g.attempt, 0);
    assert_null(g.clip_id);
    assert_null(g.outputs);
    assert_int_equal(g.started_ms, 0);
    assert_true(g.created_ms > 1600000000000);
    job_fini(&g);
    assert_int_equal(job_get(s, "nosuchjob", &g, &err), ERR_NOTFOUND);
    assert_null(g.id);
    n.clip_id = "01hnosuchclip";
    assert_int_equal(job_create(s, &n, &g, NULL, &err), ERR_NOTFOUND);
    job_fini(&j);
    job_fini(&g);
}

static void test_attempts(void **state)
{
    (void)state;
    struct job_new n = {.kind = JOB_saliency, .max_attempts = 2};
    struct job j = make_job(s, &n), g;
    bool requeued;
    struct job_lease a = claim_lease(s, "w1", 1000);
    OK(job_fail(s, &a, ERR_IO, "disk \"hiccup\"\n\xff", true, &requeued, &err));
    assert_true(requeued);
    OK(job_get(s, j.id, &g, &err));
    assert_string_equal(g.error_message, "disk \"hiccup\"\n\xef\xbf\xbd");
    job_fini(&g);
    struct job_lease b = claim_lease(s, "w2", 1000);
    assert_true(b.epoch > a.epoch);
    OK(job_release(s, &b, &err)); /* a drain does not use up the attempt */
    struct job_lease c = claim_lease(s, "w2", 1000);
    OK(job_get(s, j.id, &g, &err));
    assert_int_equal(g.attempt, 2);
    job_fini(&g);
    OK(job_fail(s, &c, ERR_IO, "again", true, &requeued, &err));
    assert_false(requeued);
    OK(job_get(s, j.id, &g, &err));
    assert_string_equal(g.state, "failed");
    assert_string_equal(g.error_code, "io");
    assert_string_equal(g.error_message, "again");
    assert_true(g.finished_ms > 0 && g.expires_ms > g.finished_ms);
    job_fini(&g);
    job_fini(&j);
}

/* A worker that lost its lease changes nothing, whatever it calls. */
static void test_fencing(void **state)
{
    (void)state;
    struct job j = plain_job(s);
    struct job_lease late = claim_lease(s, "late", 1000);
    OK(jobs_abandon(s, "late", "killed by signal 9", NULL, &err));
    struct job_lease now = claim_lease(s, "next", 1000);
    assert_string_equal(late.id, now.id);
    assert_int_equal(job_heartbeat(s, &late, &err), ERR_LEASE_LOST);
    assert_int_equal(job_progress(s, &late, 9, 10, &err), ERR_LEASE_LOST);
    assert_int_equal(job_log(s, &late, "{}", &err), ERR_LEASE_LOST);
    assert_int_equal(job_publish(s, &late, "{\"late\":1}", &err), ERR_LEASE_LOST);
    assert_int_equal(job_fail(s, &late, ERR_IO, "x", true, NULL, &err), ERR_LEASE_LOST);
    assert_int_equal(job_release(s, &late, &err), ERR_LEASE_LOST);
    OK(job_progress(s, &now, 3, 10, &err));
    OK(job_publish(s, &now, "{\"maps\":10}", &err));
    assert_int_equal(job_publish(s, &now, "{\"maps\":11}", &err), ERR_LEASE_LOST);
    struct job g;
    OK(job_get(s, j.id, &g, &err));
    assert_string_equal(g.outputs, "{\"maps\":10}");
    assert_int_equal(g.output_epoch, now.epoch);
    assert_int_equal(g.progress_done, 3);
    assert_null(g.error_code);
    job_fini(&g);
    job_fini(&j);
}

static void test_reaper(void **state)
{
    (void)state;
    struct job j = plain_job(s), k = plain_job(s);
    struct job_lease quiet = claim_lease(s, "quiet", 60), alive = claim_lease(s, "alive", 60);
    struct job_reaped got;
    OK(jobs_reap(s, &got, &err)); /* the first look only remembers */
    assert_int_equal(got.requeued + got.failed, 0);
    for (int i = 0; i < 8; i++) {
        clock_sleep_ms(15);
        OK(job_heartbeat(s, &alive, &err));
        OK(jobs_reap(s, &got, &err));
        if (got.requeued)
            break;
    }
    assert_int_equal(got.requeued, 1);
    expect_state(s, quiet.id, "queued");
    expect_state(s, alive.id, "running");
    assert_int_equal(job_publish(s, &quiet, "{}", &err), ERR_LEASE_LOST);
    struct store_counts counts;
    OK(store_counts(s, &counts, &err));
    assert_int_equal(counts.lease_losses, 1);
    assert_int_equal(counts.requeued, 1);
    job_fini(&j);
    job_fini(&k);
}

static void test_reaper_last_attempt(void **state)
{
    (void)state;
    struct job_new n = {.kind = JOB_saliency, .max_attempts = 1};
    struct job j = make_job(s, &n), g;
    claim_lease(s, "quiet", 1);
    struct job_reaped got;
    OK(jobs_reap(s, &got, &err));
    clock_sleep_ms(5);
    OK(jobs_reap(s, &got, &err));
    assert_int_equal(got.failed, 1);
    OK(job_get(s, j.id, &g, &err));
    assert_string_equal(g.state, "failed");
    assert_string_equal(g.error_code, "lease_lost");
    job_fini(&g);
    job_fini(&j);
}

static void test_cancel(void **state)
{
    (void)state;
    struct job j = plain_job(s), g;
    struct job_lease l = claim_lease(s, "w", 1000);
    OK(job_cancel(s, j.id, &g, &err));
    assert_string_equal(g.state, "canceled");
    job_fini(&g);
    assert_int_equal(job_heartbeat(s, &l, &err), ERR_CANCELED);
    assert_int_equal(job_publish(s, &l, "{}", &err), ERR_CANCELED);
    OK(job_cancel(s, j.id, NULL, &err));
    assert_int_equal(job_cancel(s, "nosuch", NULL, &err), ERR_NOTFOUND);
    OK(job_delete(s, j.id, &err));
    assert_int_equal(job_heartbeat(s, &l, &err), ERR_LEASE_LOST);
    assert_int_equal(job_delete(s, j.id, &err), ERR_NOTFOUND);
    job_fini(&j);
    struct job_lease done = job_in(JOB_STATE_succeeded);
    assert_int_equal(job_cancel(s, done.id, NULL, &err), ERR_CONFLICT);
}

static void test_idempotency(void **state)
{
    (void)state;
    struct job_new n = {.kind = JOB_saliency, .tenant = "a", .idempotency_key = "k1", .request_hash = "h1"};
    struct job first, again;
    bool existed = true;
    OK(job_create(s, &n, &first, &existed, &err));
    assert_false(existed);
    OK(job_create(s, &n, &again, &existed, &err));
    assert_true(existed);
    assert_string_equal(first.id, again.id);
    job_fini(&again);
    n.request_hash = "h2";
    assert_int_equal(job_create(s, &n, &again, &existed, &err), ERR_CONFLICT);
    n.tenant = "b"; /* another tenant's keys are its own */
    OK(job_create(s, &n, &again, &existed, &err));
    assert_false(existed);
    assert_string_not_equal(first.id, again.id);
    job_fini(&again);
    assert_int_equal(job_by_key(s, "a", "k1", &again, &err), 1);
    assert_string_equal(again.id, first.id);
    job_fini(&again);
    assert_int_equal(job_by_key(s, "a", "k2", &again, &err), 0);
    job_fini(&first);
}

static void test_limits(void **state)
{
    (void)state;
    store_close(s);
    struct store_opts o = {.queue_limit = 4, .tenant_limit = 2};
    s = open_fresh(&o, url);
    struct job_new a = {.kind = JOB_saliency, .tenant = "a"}, b = {.kind = JOB_eval, .tenant = "b"}, c = a;
    c.tenant = "c";
    struct job j;
    for (int i = 0; i < 2; i++) {
        j = make_job(s, &a);
        job_fini(&j);
    }
    assert_int_equal(job_create(s, &a, &j, NULL, &err), ERR_BUSY);
    assert_null(j.id);
    for (int i = 0; i < 2; i++) {
        j = make_job(s, &b);
        job_fini(&j);
    }
    assert_int_equal(job_create(s, &c, &j, NULL, &err), ERR_BUSY);
    claim_lease(s, "w", 1000); /* running jobs do not count */
    j = make_job(s, &c);
    job_fini(&j);
}

/* Priority first; then tenants take turns, however many jobs one of them queued before. */
static void test_fairness(void **state)
{
    (void)state;
    struct job_new a = {.kind = JOB_saliency, .tenant = "a"}, b = a, urgent = a;
    b.tenant = "b";
    urgent.priority = 1;
    char ids[8][ID_SIZE];
    for (int i = 0; i < 8; i++) {
        struct job j = make_job(s, i < 5 ? &a : i < 7 ? &b : &urgent);
        snprintf(ids[i], ID_SIZE, "%s", j.id);
        job_fini(&j);
        clock_sleep_ms(2); /* ids of one millisecond have no order */
    }
    static const int order[] = {7, 5, 0, 6, 1, 2, 3, 4};
    for (int i = 1; i < 8; i++) {
        struct job j;
        struct job_place p;
        OK(job_get(s, ids[order[i]], &j, &err));
        OK(job_place(s, &j, &p, &err));
        if (i == 7)
            assert_int_equal(p.position, 8);
        job_fini(&j);
    }
    for (int i = 0; i < 8; i++) {
        struct job j;
        struct job_place p;
        OK(job_get(s, ids[order[i]], &j, &err));
        OK(job_place(s, &j, &p, &err));
        if (i > 0)
            assert_int_equal(p.position, 1);
        job_fini(&j);
        struct job_lease l = claim_lease(s, "w", 1000);
        assert_string_equal(l.id, ids[order[i]]);
        OK(job_publish(s, &l, "{}", &err));
    }
}

static void test_tenant_concurrency(void **state)
{
    (void)state;
    OK(tenant_set_max_running(s, "a", 1, &err));
    struct job_new a = {.kind = JOB_saliency, .tenant = "a"};
    for (int i = 0; i < 2; i++) {
        struct job j = make_job(s, &a);
        job_fini(&j);
    }
    struct job_lease l = claim_lease(s, "w", 1000);
    struct job none;
    assert_int_equal(job_claim(s, "w2", JOB_KINDS_ALL, 1000, &none, &err), 0);
    assert_null(none.id);
    OK(job_publish(s, &l, "{}", &err));
    claim_lease(s, "w2", 1000);
}

static void test_claim_kinds(void **state)
{
    (void)state;
    struct job_new n = {.kind = JOB_train};
    struct job j = make_job(s, &n), g;
    assert_int_equal(job_claim(s, "w", 1u << JOB_saliency | 1u << JOB_eval, 1000, &g, &err), 0);
    assert_int_equal(job_claim(s, "w", 1u << JOB_train, 1000, &g, &err), 1);
    assert_string_equal(g.id, j.id);
    assert_string_equal(g.worker, "w");
    job_fini(&g);
    job_fini(&j);
}

static void test_list(void **state)
{
    (void)state;
    for (int i = 0; i < 25; i++) {
        struct job_new n = {.kind = i % 5 == 0 ? JOB_eval : JOB_saliency, .tenant = i % 2 ? "odd" : "even"};
        struct job j = make_job(s, &n);
        job_fini(&j);
        clock_sleep_ms(1);
    }
    char *cursor = NULL, last[ID_SIZE] = "~";
    int seen = 0;
    do {
        struct job_list l;
        OK(job_list(s, NULL, cursor, 10, &l, &err));
        for (size_t i = 0; i < l.n; i++, seen++) {
            assert_true(strcmp(l.items[i].id, last) < 0);
            snprintf(last, sizeof(last), "%s", l.items[i].id);
        }
        free(cursor);
        cursor = l.next_cursor;
        l.next_cursor = NULL;
        job_list_fini(&l);
    } while (cursor);
    assert_int_equal(seen, 25);
    struct job_filter f = {.kinds = 1u << JOB_eval, .states = 1u << JOB_STATE_queued, .tenant = "odd"};
    struct job_list l;
    OK(job_list(s, &f, NULL, 100, &l, &err));
    assert_int_equal(l.n, 2); /* 5, 15 */
    assert_null(l.next_cursor);
    job_list_fini(&l);
    f.states = 1u << JOB_STATE_failed;
    OK(job_list(s, &f, NULL, 100, &l, &err));
    assert_int_equal(l.n, 0);
    job_list_fini(&l);
    assert_int_equal(job_list(s, NULL, "x' OR 1=1", 10, &l, &err), ERR_INVALID);
}

static void test_events(void **state)
{
    (void)state;
    struct job j = plain_job(s);
    struct job_lease l = claim_lease(s, "w", 1000);
    for (int i = 1; i <= 5; i++)
        OK(job_progress(s, &l, i, 10, &err));
    OK(job_log(s, &l, "{\"line\":\"half way\"}", &err));
    OK(job_fail(s, &l, ERR_IO, "a \"quoted\"\nline \xc3\xa9 \xff", false, NULL, &err));
    struct event_list ev;
    OK(job_events(s, j.id, 0, 100, &ev, &err));
    assert_int_equal(ev.n, 5); /* queued, running, newest progress, log, failed */
    static const char *const types[] = {"state", "state", "progress", "log", "state"};
    for (size_t i = 0; i < ev.n; i++) {
        assert_string_equal(ev.items[i].type, types[i]);
        assert_true(i == 0 || ev.items[i].seq > ev.items[i - 1].seq);
    }
    assert_string_equal(ev.items[2].data, "{\"done\":5,\"total\":10,\"unit\":\"frames\"}");
    assert_string_equal(ev.items[4].data, "{\"state\":\"failed\",\"attempt\":1,\"error\":{\"code\":\"io\",\"message\":"
                                          "\"a \\\"quoted\\\"\\u000aline \xc3\xa9 \xef\xbf\xbd\"}}");
    int64_t after = ev.items[2].seq;
    event_list_fini(&ev);
    OK(job_events(s, j.id, after, 100, &ev, &err));
    assert_int_equal(ev.n, 2);
    event_list_fini(&ev);
    OK(job_events(s, "nosuch", 0, 100, &ev, &err));
    assert_int_equal(ev.n, 0);
    job_fini(&j);
}

static void test_events_bounded(void **state)
{
    (void)state;
    struct job j = plain_job(s);
    struct job_lease l = claim_lease(s, "w", 1000);
    for (int i = 0; i < JOB_EVENTS_KEPT + 20; i++)
        OK(job_log(s, &l, "{}", &err));
    struct event_list ev;
    OK(job_events(s, j.id, 0, 5000, &ev, &err));
    assert_int_equal(ev.n, JOB_EVENTS_KEPT);
    assert_int_equal(ev.items[ev.n - 1].seq, JOB_EVENTS_KEPT + 22);
    event_list_fini(&ev);
    job_fini(&j);
}

static void test_eta(void **state)
{
    (void)state;
    struct job first = plain_job(s);
    struct job_place p;
    OK(job_place(s, &first, &p, &err));
    assert_int_equal(p.position, 1);
    assert_int_equal(p.eta_ms, -1); /* nothing known yet */
    struct job_lease l = claim_lease(s, "w", 1000);
    clock_sleep_ms(20);
    OK(job_progress(s, &l, 5, 10, &err));
    struct job run;
    OK(job_get(s, l.id, &run, &err));
    OK(job_place(s, &run, &p, &err));
    assert_int_equal(p.position, 0);
    assert_true(p.eta_ms >= 15 && p.eta_ms < 5000);
    job_fini(&run);
    OK(job_publish(s, &l, "{}", &err));
    struct job next = plain_job(s);
    OK(job_place(s, &next, &p, &err));
    assert_true(p.eta_ms >= 15 && p.eta_ms < 5000);
    job_fini(&next);
    job_fini(&first);
}

static void test_workers(void **state)
{
    (void)state;
    struct worker_record w = {.id = (char *)"w1", .host = (char *)"h", .pid = 7, .device = (char *)"cpu"};
    OK(worker_beat(s, &w, &err));
    w.job_id = (char *)"j1";
    w.draining = 1;
    OK(worker_beat(s, &w, &err));
    struct worker_list l;
    OK(worker_list(s, 10000, &l, &err));
    assert_int_equal(l.n, 1);
    assert_string_equal(l.items[0].job_id, "j1");
    assert_int_equal(l.items[0].draining, 1);
    worker_list_fini(&l);
    clock_sleep_ms(5);
    OK(worker_list(s, 1, &l, &err));
    assert_int_equal(l.n, 0);
    worker_list_fini(&l);
    OK(worker_remove(s, "w1", &err));
    OK(worker_list(s, 0, &l, &err));
    assert_int_equal(l.n, 0);
    worker_list_fini(&l);
}

static void test_counts_and_check(void **state)
{
    (void)state;
    OK(store_check(s, &err));
    job_in(JOB_STATE_failed);
    job_in(JOB_STATE_canceled);
    struct job j = plain_job(s);
    clock_sleep_ms(3);
    struct store_counts c;
    OK(store_counts(s, &c, &err));
    assert_int_equal(c.jobs[JOB_STATE_queued][JOB_saliency], 1);
    assert_int_equal(c.jobs[JOB_STATE_failed][JOB_saliency], 1);
    assert_int_equal(c.jobs[JOB_STATE_canceled][JOB_saliency], 1);
    assert_int_equal(c.jobs[JOB_STATE_running][JOB_saliency], 0);
    assert_true(c.oldest_queued_ms > 0);
    job_fini(&j);
}

static void test_wait(void **state)
{
    (void)state;
    OK(store_wait(s, STORE_TOPIC_QUEUE, 0, &err)); /* the first call may say that something changed */
    while (store_wait(s, STORE_TOPIC_QUEUE, 0, &err) == 1)
        continue;
    int64_t t0 = clock_mono_ms();
    assert_int_equal(store_wait(s, STORE_TOPIC_QUEUE, 120, &err), 0);
    assert_true(clock_mono_ms() - t0 >= 100);
    struct job j = plain_job(s);
    assert_int_equal(store_wait(s, STORE_TOPIC_QUEUE, 2000, &err), 1);
    job_fini(&j);
    store_wake(s);
    t0 = clock_mono_ms();
    assert_int_equal(store_wait(s, STORE_TOPIC_QUEUE, 5000, &err), 1);
    assert_true(clock_mono_ms() - t0 < 1000);
}

static void test_bad_urls(void **state)
{
    (void)state;
    struct store *x;
    assert_int_equal(store_open("mysql://x", NULL, &x, &err), ERR_INVALID);
    assert_null(x);
    assert_true(store_open("sqlite:/nonexistent/dir/db", NULL, &x, &err) < 0);
    assert_non_null(strstr(err.msg, "/nonexistent/dir/db"));
    char path[300];
    snprintf(path, sizeof(path), "%s/garbage", temp_root);
    OK(fs_write_atomic(path, "this is not a database, it is a text file of some length...", 59, &err));
    char u[URL_MAX];
    snprintf(u, sizeof(u), "sqlite:%s", path);
    assert_int_equal(store_open(u, NULL, &x, &err), ERR_CORRUPT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_state_table), T(test_create_and_get), T(test_attempts),
        T(test_fencing),     T(test_reaper),         T(test_reaper_last_attempt),
        T(test_cancel),      T(test_idempotency),    T(test_limits),
        T(test_fairness),    T(test_claim_kinds),    T(test_tenant_concurrency),
        T(test_list),        T(test_events),         T(test_events_bounded),
        T(test_eta),         T(test_workers),        T(test_counts_and_check),
        T(test_wait),        T(test_bad_urls),
    };
    RUN_OVER_BACKENDS(tests);
}
