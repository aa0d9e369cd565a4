/* Clips, retention and the sweep, over every pair of database and blob backend: no blob too many, none too few. */
#include "tests/unit/store/blobs.h"

#include <pthread.h>

static struct store *s;
static struct blobs *b;
static char url[URL_MAX];

static int setup(void **state)
{
    (void)state;
    static const struct store_opts opts = {.retention_ms = 1};
    s = open_fresh(&opts, url);
    b = blobs_fresh();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    store_close(s);
    blobs_close(b);
    return 0;
}

static struct clip_record add(const char *text, const char *tenant, int64_t expires_ms, bool *existed)
{
    char path[FS_PATH_MAX];
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, text, strlen(text), &err));
    struct clip_record c = {.tenant = (char *)tenant,
                            .name = (char *)"a.mp4",
                            .frames = 80,
                            .width = 854,
                            .height = 480,
                            .fps = 29.97,
                            .duration_s = 2.669,
                            .codec = (char *)"h264",
                            .expires_ms = expires_ms},
                       out;
    OK(clip_add(s, b, path, true, &c, &out, existed, &err));
    assert_false(fs_exists(path));
    return out;
}

static void expect_clip_blob(const struct clip_record *c, int want)
{
    char key[CLIP_KEY_SIZE];
    clip_key(c, key);
    assert_int_equal(blob_exists(b, key, &err), want);
}

static struct store_sweep sweep(bool deep)
{
    struct store_sweep got;
    clock_sleep_ms(3);
    OK(store_sweep(s, b, deep, 0, &got, &err));
    return got;
}

static void test_add(void **state)
{
    (void)state;
    bool existed;
    struct clip_record c = add("clip one", "a", 0, &existed), again, other, got;
    assert_false(existed);
    OK(clip_get(s, c.id, &got, &err));
    assert_string_equal(got.codec, "h264");
    assert_int_equal(got.bytes, 8);
    assert_true(got.fps == 29.97 && got.duration_s == 2.669);
    assert_int_equal(got.refs, 0);
    clip_record_fini(&got);
    again = add("clip one", "a", 0, &existed);
    assert_true(existed);
    assert_string_equal(again.id, c.id);
    other = add("clip one", "b", 0, &existed);
    assert_false(existed);
    assert_string_not_equal(other.id, c.id);
    OK(clip_delete(s, c.id, &err));
    sweep(true);
    expect_clip_blob(&other, 1); /* still the other tenant's */
    OK(clip_delete(s, other.id, &err));
    assert_int_equal(sweep(false).blobs, 1);
    expect_clip_blob(&other, 0);
    assert_int_equal(clip_delete(s, other.id, &err), ERR_NOTFOUND);
    assert_int_equal(clip_get(s, other.id, &got, &err), ERR_NOTFOUND);
    clip_record_fini(&c);
    clip_record_fini(&again);
    clip_record_fini(&other);
}

static void test_in_use(void **state)
{
    (void)state;
    struct clip_record c = add("used", "", 0, NULL);
    struct job_new n = {.kind = JOB_saliency, .clip_id = c.id};
    struct job j = make_job(s, &n);
    assert_int_equal(clip_delete(s, c.id, &err), ERR_CONFLICT);
    OK(job_cancel(s, j.id, NULL, &err));
    OK(clip_delete(s, c.id, &err));
    job_fini(&j);
    clip_record_fini(&c);
}

static struct clip_new put(const char *text, int64_t frames)
{
    char path[FS_PATH_MAX];
    struct clip_new n;
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, text, strlen(text), &err));
    OK(clip_put(s, b, path, true, &n, &err));
    n.record = (struct clip_record){.name = (char *)"b.mp4", .frames = frames, .width = 64, .height = 48};
    return n;
}

static size_t count_clips(void)
{
    struct clip_list l;
    OK(clip_list(s, NULL, NULL, 1000, &l, &err));
    size_t n = l.n;
    clip_list_fini(&l);
    return n;
}

/* A clip's record is made with its job, or neither is. */
static void test_with_job(void **state)
{
    (void)state;
    struct clip_new one = put("one", 5), two = put("two", 7);
    struct job_new n = {.kind = JOB_saliency, .new_clip = &one, .idempotency_key = "k", .request_hash = "1"};
    struct job j, again;
    bool existed = true;
    assert_int_equal(count_clips(), 0);
    OK(job_create(s, &n, &j, &existed, &err));
    assert_false(existed);
    struct clip_record c;
    OK(clip_get(s, j.clip_id, &c, &err));
    assert_string_equal(c.sha256, one.sha256);
    assert_int_equal(c.frames, 5);
    n.new_clip = &two;
    n.request_hash = "2";
    assert_int_equal(job_create(s, &n, &again, NULL, &err), ERR_CONFLICT);
    assert_int_equal(count_clips(), 1);
    n.request_hash = "1"; /* the same request again: its job, whatever clip came */
    OK(job_create(s, &n, &again, &existed, &err));
    assert_true(existed);
    assert_string_equal(again.id, j.id);
    assert_int_equal(count_clips(), 1);
    job_fini(&again);
    n.idempotency_key = NULL;
    n.new_clip = &one; /* the same bytes: the clip that is there */
    OK(job_create(s, &n, &again, NULL, &err));
    assert_string_equal(again.clip_id, j.clip_id);
    assert_int_equal(count_clips(), 1);
    job_fini(&again);
    job_fini(&j);
    clip_record_fini(&c);
}

static void test_frames_learnt(void **state)
{
    (void)state;
    struct clip_record c = add("claims 80", "", 0, NULL), got;
    OK(clip_set_frames(s, c.id, 77, &err));
    OK(clip_get(s, c.id, &got, &err));
    assert_int_equal(got.frames, 77);
    OK(clip_set_frames(s, "no-such-clip", 1, &err)); /* it was deleted meanwhile: nobody minds */
    clip_record_fini(&got);
    clip_record_fini(&c);
}

static void test_expiry(void **state)
{
    (void)state;
    int64_t now = clock_wall_ms();
    struct clip_record gone = add("expired", "", now - 1000, NULL),
                       used = add("expired but used", "", now - 1000, NULL), kept = add("kept", "", 0, NULL),
                       later = add("later", "", now + 100000, NULL);
    struct job_new n = {.kind = JOB_saliency, .clip_id = used.id};
    struct job j = make_job(s, &n);
    assert_int_equal(sweep(true).clips, 1);
    expect_clip_blob(&gone, 0);
    expect_clip_blob(&used, 1);
    expect_clip_blob(&kept, 1);
    expect_clip_blob(&later, 1);
    struct job_lease l = claim_lease(s, "w", 1000);
    OK(job_fail(s, &l, ERR_CORRUPT, "x", false, NULL, &err));
    struct store_sweep got = sweep(true);
    assert_int_equal(got.clips, 1);
    assert_int_equal(got.jobs, 1);
    expect_clip_blob(&used, 0);
    job_fini(&j);
    clip_record_fini(&gone);
    clip_record_fini(&used);
    clip_record_fini(&kept);
    clip_record_fini(&later);
}

static void put_map(const struct job_lease *l, const char *name)
{
    char key[200];
    snprintf(key, sizeof(key), "jobs/%s/%lld/maps/%s", l->id, (long long)l->epoch, name);
    put_text(b, key, "png");
}

static int count_blob(void *arg, const char *key, const struct blob_stat *st)
{
    (void)key, (void)st;
    ++*(int *)arg;
    return 0;
}

static int blobs_below(const char *prefix)
{
    int n = 0;
    OK(blob_list(b, prefix, count_blob, &n, &err));
    return n;
}

/* Two attempts, a late worker and a checkpoint: what is published stays, the rest goes. */
static void test_attempt_blobs(void **state)
{
    (void)state;
    store_close(s);
    s = open_fresh(NULL, url);
    struct job j = plain_job(s);
    struct job_lease one = claim_lease(s, "w1", 1000);
    put_map(&one, "0.png");
    OK(jobs_abandon(s, "w1", "killed", NULL, &err));
    struct job_lease two = claim_lease(s, "w2", 1000);
    put_map(&two, "0.png");
    put_map(&two, "1.png");
    char key[100];
    snprintf(key, sizeof(key), "jobs/%s/checkpoint/last", j.id);
    put_text(b, key, "weights");
    assert_int_equal(sweep(true).blobs, 1);
    assert_int_equal(blobs_below("jobs/"), 3); /* running: its maps and the checkpoint stay */
    OK(job_publish(s, &two, "{}", &err));
    put_map(&one, "late.png"); /* the first worker did not notice */
    struct store_sweep got = sweep(false);
    assert_int_equal(got.blobs, 0);
    got = sweep(true);
    assert_int_equal(got.orphans, 1);
    assert_int_equal(got.orphan_bytes, 3);
    assert_int_equal(blobs_below("jobs/"), 3);
    OK(job_delete(s, j.id, &err));
    assert_int_equal(sweep(false).blobs, 3);
    assert_int_equal(blobs_below(""), 0);
    job_fini(&j);
}

/* The deep sweep leaves young blobs and foreign keys alone. */
static void test_deep_is_careful(void **state)
{
    (void)state;
    put_text(b, "clips/0123", "no record");
    put_text(b, "baselines/all/main/1.json", "not the sweep's business");
    put_text(b, "masks/4567", "no record");
    struct store_sweep got;
    OK(store_sweep(s, b, true, 60000, &got, &err));
    assert_int_equal(got.orphans, 0);
    got = sweep(true);
    assert_int_equal(got.orphans, 2);
    assert_int_equal(blobs_below(""), 1);
}

static void *churn(void *arg)
{
    struct err e;
    for (int i = 0; i < 15; i++) {
        char path[FS_PATH_MAX], key[CLIP_KEY_SIZE];
        struct clip_record c = {.tenant = arg, .frames = 1}, out;
        if (blobs_temp(b, path, &e) || fs_write_atomic(path, "contended", 9, &e))
            return (void *)1;
        if (clip_add(s, b, path, true, &c, &out, NULL, &e))
            return (void *)2;
        clip_key(&out, key);
        int have = blob_exists(b, key, &e);
        int rc = clip_delete(s, out.id, &e);
        clip_record_fini(&out);
        if (have != 1)
            return (void *)3;
        if (rc)
            return (void *)4;
    }
    return NULL;
}

/* Adding, removing and sweeping the same content at once: a record always has its bytes. */
static void test_churn(void **state)
{
    (void)state;
    pthread_t t[3];
    static const char *const names[] = {"x", "y", "z"};
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, churn, (void *)(uintptr_t)names[i]);
    for (int i = 0; i < 10; i++) {
        OK(store_sweep(s, b, true, 3000, NULL, &err));
        clock_sleep_ms(10);
    }
    for (int i = 0; i < 3; i++) {
        void *rc;
        pthread_join(t[i], &rc);
        assert_int_equal((intptr_t)rc, 0);
    }
    sweep(true);
    assert_int_equal(blobs_below(""), 0);
}

static void test_list(void **state)
{
    (void)state;
    for (int i = 0; i < 5; i++) {
        char text[8];
        snprintf(text, sizeof(text), "%d", i);
        struct clip_record c = add(text, "a", 0, NULL);
        clip_record_fini(&c);
        clock_sleep_ms(2);
    }
    struct clip_list l;
    OK(clip_list(s, "a", NULL, 3, &l, &err));
    assert_int_equal(l.n, 3);
    char *cursor = l.next_cursor;
    assert_non_null(cursor);
    l.next_cursor = NULL;
    clip_list_fini(&l);
    OK(clip_list(s, "a", cursor, 3, &l, &err));
    assert_int_equal(l.n, 2);
    assert_null(l.next_cursor);
    clip_list_fini(&l);
    free(cursor);
    OK(clip_list(s, "b", NULL, 3, &l, &err));
    assert_int_equal(l.n, 0);
    clip_list_fini(&l);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_add),   T(test_in_use), T(test_expiry),   T(test_attempt_blobs), T(test_deep_is_careful),
        T(test_churn), T(test_list),   T(test_with_job), T(test_frames_learnt),
    };
    int failed = 0;
    temp_make();
    for (size_t d = 0; d < sizeof(backends) / sizeof(*backends); d++)
        for (size_t k = 0; k < sizeof(blob_backends) / sizeof(*blob_backends); k++) {
            backend = &backends[d];
            blob_backend = &blob_backends[k];
            char name[64];
            snprintf(name, sizeof(name), "%s and %s", backend->name, blob_backend->name);
            if (backend->available() && blob_backend->available())
                failed += cmocka_run_group_tests_name(name, tests, NULL, NULL);
        }
    for (size_t d = 0; d < sizeof(backends) / sizeof(*backends); d++)
        backends[d].stop();
    for (size_t k = 0; k < sizeof(blob_backends) / sizeof(*blob_backends); k++)
        blob_backends[k].stop();
    temp_remove();
    return failed;
}
