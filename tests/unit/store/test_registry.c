/* The registry over every pair of database and blob backend: versions, aliases, rollback, pins, conclusions, curves. */
#include "tests/unit/store/blobs.h"

#include <pthread.h>

#include "core/store/registry.h"

static struct store *s;
static struct blobs *b;
static char url[URL_MAX];

static int setup(void **state)
{
    (void)state;
    s = open_fresh(NULL, url);
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

static const struct registry_new imported = {.model = "cats", .arch = "rcrnet-lite", .origin = "import"};

static int try_add(const struct registry_new *n, const char *bytes, struct registry_version *v, bool *existed)
{
    char path[FS_PATH_MAX];
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, bytes, strlen(bytes), &err));
    err = (struct err){0};
    int rc = registry_add(s, b, path, true, n, v, existed, &err);
    if (rc)
        unlink(path);
    return rc;
}

/* Adds and returns the version's name in a static buffer. */
static const char *add(const struct registry_new *n, const char *bytes)
{
    static char version[4][REGISTRY_NAME_MAX + 1];
    static int at;
    struct registry_version v;
    check_rc(try_add(n, bytes, &v, NULL), &err, "registry_add", __FILE__, __LINE__);
    char *out = version[at++ % 4];
    snprintf(out, REGISTRY_NAME_MAX + 1, "%s", v.version);
    registry_version_fini(&v);
    return out;
}

static void expect_ref(const char *ref, const char *version)
{
    struct registry_version v;
    int rc = registry_resolve(s, ref, &v, &err);
    if (!version) {
        assert_int_equal(rc, ERR_NOTFOUND);
        return;
    }
    check_rc(rc, &err, ref, __FILE__, __LINE__);
    assert_string_equal(v.version, version);
    registry_version_fini(&v);
}

static void set(const char *alias, const char *version)
{
    struct registry_move m = {.model = "cats", .alias = alias, .version = version, .actor = "me", .reason = "because"};
    OK(registry_set(s, &m, NULL, &err));
}

static void test_versions(void **state)
{
    (void)state;
    struct registry_version v;
    bool existed;
    assert_string_equal(add(&imported, "one"), "1");
    assert_string_equal(add(&imported, "two"), "2");
    expect_ref("cats", "1"); /* the first stays champion */
    expect_ref("cats@2", "2");
    expect_ref("cats:champion", "1");
    expect_ref("cats@3", NULL);
    expect_ref("cats:challenger", NULL);
    expect_ref("dogs", NULL);
    expect_ref("", NULL);
    expect_ref("cats@", NULL);
    expect_ref("../cats", NULL);
    OK(try_add(&imported, "one", &v, &existed)); /* the same bytes are the same version */
    assert_true(existed);
    assert_string_equal(v.version, "1");
    assert_string_equal(v.origin, "import");
    expect_text(b, v.blob_key, "one");
    registry_version_fini(&v);
    struct registry_new n = imported;
    n.arch = "rcrnet-r50";
    assert_int_equal(try_add(&n, "three", &v, NULL), ERR_INVALID);
    n = imported;
    n.version = "2";
    assert_int_equal(try_add(&n, "three", &v, NULL), ERR_EXISTS);
    n.version = "2024.b";
    assert_string_equal(add(&n, "three"), "2024.b");
    assert_string_equal(add(&imported, "four"), "3");
    n.model = "../x";
    assert_int_equal(try_add(&n, "five", &v, NULL), ERR_INVALID);
    struct registry_versions l;
    OK(registry_versions(s, "cats", &l, &err));
    assert_int_equal(l.n, 4);
    registry_versions_fini(&l);
    struct registry_models ms;
    OK(registry_models(s, &ms, &err));
    assert_int_equal(ms.n, 1);
    assert_int_equal(ms.items[0].versions, 4);
    registry_models_fini(&ms);
}

static void test_alias_and_rollback(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        add(&imported, (const char *[]){"one", "two", "three"}[i]);
    struct registry_alias a;
    struct registry_move back = {.model = "cats", .alias = "champion", .actor = "me"};
    assert_int_equal(registry_rollback(s, &back, &a, &err), ERR_CONFLICT); /* nothing before the first */
    set("champion", "2");
    set("champion", "3");
    set("champion", "3"); /* no move */
    struct registry_move stale = {.model = "cats", .alias = "champion", .version = "1", .generation = 2};
    assert_int_equal(registry_set(s, &stale, NULL, &err), ERR_CONFLICT);
    stale.generation = 0;
    stale.expect = "2";
    assert_int_equal(registry_set(s, &stale, NULL, &err), ERR_CONFLICT);
    stale.expect = NULL;
    stale.version = "9";
    assert_int_equal(registry_set(s, &stale, NULL, &err), ERR_NOTFOUND);
    expect_ref("cats", "3");
    OK(registry_rollback(s, &back, &a, &err));
    assert_string_equal(a.version, "2");
    assert_int_equal(a.generation, 4);
    registry_alias_fini(&a);
    OK(registry_rollback(s, &back, &a, &err)); /* takes back one more, does not toggle */
    assert_string_equal(a.version, "1");
    registry_alias_fini(&a);
    assert_int_equal(registry_rollback(s, &back, &a, &err), ERR_CONFLICT);
    set("champion", "3");
    OK(registry_rollback(s, &back, &a, &err));
    assert_string_equal(a.version, "1");
    registry_alias_fini(&a);
    struct registry_events l;
    OK(registry_history(s, "cats", 100, &l, &err));
    assert_int_equal(l.n, 7);
    assert_string_equal(l.items[0].action, "rollback");
    assert_string_equal(l.items[0].from_version, "3");
    assert_string_equal(l.items[1].reason, "because");
    assert_string_equal(l.items[1].actor, "me");
    registry_events_fini(&l);
}

static void test_delete(void **state)
{
    (void)state;
    for (int i = 0; i < 3; i++)
        add(&imported, (const char *[]){"one", "two", "three"}[i]);
    set("champion", "2");
    assert_int_equal(registry_delete(s, "cats", "2", &err), ERR_CONFLICT); /* named */
    assert_int_equal(registry_delete(s, "cats", "1", &err), ERR_CONFLICT); /* a rollback leads there */
    assert_int_equal(registry_delete(s, "cats", "7", &err), ERR_NOTFOUND);
    struct registry_version v;
    OK(registry_version(s, "cats", "3", &v, &err));
    OK(registry_delete(s, "cats", "3", &err));
    struct store_sweep done;
    clock_sleep_ms(5);
    OK(store_sweep(s, b, false, 1, &done, &err));
    assert_int_equal(blob_exists(b, v.blob_key, &err), 0);
    registry_version_fini(&v);
    OK(registry_version(s, "cats", "2", &v, &err));
    OK(store_sweep(s, b, true, 1, &done, &err));
    assert_int_equal(blob_exists(b, v.blob_key, &err), 1);
    registry_version_fini(&v);
}

static void test_builtin(void **state)
{
    (void)state;
    static const char sha1[] = "1111111111111111111111111111111111111111111111111111111111111111";
    char path[FS_PATH_MAX], real[SHA256_HEX_SIZE];
    struct registry_new n = {.model = "lite", .arch = "rcrnet-lite", .origin = "builtin", .version = "1"};
    OK(registry_add_builtin(s, &n, sha1, &err));
    OK(registry_add_builtin(s, &n, sha1, &err));
    expect_ref("lite", "1");
    /* An upgrade brings other weights under the same name: both stay, the champion follows. */
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, "new", 3, &err));
    OK(sha256_file_hex(path, real, &err));
    OK(registry_add_builtin(s, &n, real, &err));
    char renamed[16];
    snprintf(renamed, sizeof(renamed), "1-%.8s", real);
    expect_ref("lite", renamed);
    struct registry_version v;
    OK(registry_version(s, "lite", renamed, &v, &err));
    assert_null(v.blob_key);
    registry_version_fini(&v);
    OK(registry_keep_builtin(s, b, path, real, &err));
    assert_int_equal(registry_keep_builtin(s, b, path, sha1, &err), ERR_CORRUPT);
    OK(registry_version(s, "lite", renamed, &v, &err));
    expect_text(b, v.blob_key, "new");
    registry_version_fini(&v);
    assert_int_equal(registry_delete(s, "lite", "1", &err), ERR_CONFLICT);
    /* A champion that a person moved stays. */
    struct registry_move m = {.model = "lite", .alias = "champion", .version = "1", .actor = ""};
    OK(registry_set(s, &m, NULL, &err));
    static const char sha3[] = "3333333333333333333333333333333333333333333333333333333333333333";
    OK(registry_add_builtin(s, &n, sha3, &err));
    expect_ref("lite", "1");
    expect_ref("lite@1-33333333", "1-33333333");
    unlink(path);
}

static void test_pin(void **state)
{
    (void)state;
    add(&imported, "one");
    add(&imported, "two");
    struct job_new n = {.kind = JOB_saliency, .model = "cats"};
    struct job j = make_job(s, &n);
    struct job_lease l = claim_lease(s, "w", 1000), old = l;
    struct registry_version v;
    OK(registry_pin(s, &l, "cats", &v, &err));
    assert_string_equal(v.version, "1");
    registry_version_fini(&v);
    set("champion", "2");
    OK(registry_pin(s, &l, "cats", &v, &err)); /* a running job keeps its version */
    assert_string_equal(v.version, "1");
    registry_version_fini(&v);
    OK(job_release(s, &l, &err));
    l = claim_lease(s, "w", 1000);
    OK(registry_pin(s, &l, "cats", &v, &err)); /* and so does its next attempt */
    assert_string_equal(v.version, "1");
    registry_version_fini(&v);
    assert_int_equal(registry_pin(s, &old, "cats", &v, &err), ERR_LEASE_LOST);
    job_fini(&j);
    OK(job_get(s, l.id, &j, &err));
    assert_string_equal(j.model, "cats");
    assert_string_equal(j.model_version, "1");
    assert_int_equal(strlen(j.model_sha256), 64);
    job_fini(&j);
    OK(job_cancel(s, l.id, NULL, &err));
    assert_int_equal(registry_pin(s, &l, "cats", &v, &err), ERR_CANCELED);
}

static struct job_lease train_lease(void)
{
    struct job_new n = {.kind = JOB_train, .project_id = "p1"};
    struct job j = make_job(s, &n);
    job_fini(&j);
    return claim_lease(s, "w", 1000);
}

static void conclude(const struct job_lease *l, const char *bytes, const struct registry_verdict *v,
                     const char *version, bool want)
{
    char path[FS_PATH_MAX];
    struct registry_version out;
    bool promoted = !want;
    struct registry_new n = {.model = "cats",
                             .arch = "rcrnet-lite",
                             .origin = "train",
                             .job_id = l->id,
                             .metrics = "{\"s\":1}",
                             .parent_version = "1"};
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, bytes, strlen(bytes), &err));
    OK(registry_conclude(s, b, l, path, &n, v, &out, &promoted, &err));
    assert_string_equal(out.version, version);
    assert_int_equal(promoted, want);
    registry_version_fini(&out);
    unlink(path);
}

static int moves_of(const char *action)
{
    struct registry_events l;
    OK(registry_history(s, "cats", 100, &l, &err));
    int n = 0;
    for (size_t i = 0; i < l.n; i++)
        n += strcmp(l.items[i].alias, "champion") == 0 && strcmp(l.items[i].action, action) == 0;
    registry_events_fini(&l);
    return n;
}

static void test_conclude(void **state)
{
    (void)state;
    static const struct registry_verdict yes = {true, "S .80 to .85"}, no = {false, "S .80 to .79"};
    add(&imported, "one");
    struct job_lease l = train_lease();
    conclude(&l, "two", &yes, "2", true);
    conclude(&l, "two", &yes, "2", true); /* an attempt that lost its end does it again: nothing happens twice */
    conclude(&l, "other bits", &no, "2", true);
    expect_ref("cats", "2");
    expect_ref("cats:challenger", "2");
    assert_int_equal(moves_of("set"), 2);
    OK(job_publish(s, &l, "{}", &err));
    l = train_lease();
    conclude(&l, "three", &yes, "3", false); /* it was compared with 1, and that is not the champion any more */
    expect_ref("cats", "2");
    expect_ref("cats:challenger", "3");
    OK(job_publish(s, &l, "{}", &err));
    l = train_lease();
    struct registry_move m = {.model = "cats", .alias = "champion", .actor = ""};
    OK(registry_rollback(s, &m, NULL, &err));
    conclude(&l, "four", &no, "4", false);
    expect_ref("cats", "1");
    assert_int_equal(moves_of("keep"), 2);
    OK(job_cancel(s, l.id, NULL, &err));
    char path[FS_PATH_MAX];
    struct registry_version out;
    bool promoted;
    struct registry_new n = {.model = "cats", .arch = "rcrnet-lite", .origin = "train", .job_id = l.id};
    OK(blobs_temp(b, path, &err));
    assert_int_equal(registry_conclude(s, b, &l, path, &n, &yes, &out, &promoted, &err), ERR_CANCELED);
    unlink(path);
}

static void *submit_training(void *arg)
{
    struct job j = {0};
    struct job_new n = {.kind = JOB_train, .project_id = "p1"};
    struct err e = {0};
    *(int *)arg = job_create(s, &n, &j, NULL, &e);
    if (*(int *)arg && *(int *)arg != ERR_EXISTS)
        print_error("%s\n", e.msg);
    job_fini(&j);
    return NULL;
}

static void test_one_training(void **state)
{
    (void)state;
    pthread_t threads[8];
    int rc[8], made = 0;
    for (int i = 0; i < 8; i++)
        pthread_create(&threads[i], NULL, submit_training, &rc[i]);
    for (int i = 0; i < 8; i++) {
        pthread_join(threads[i], NULL);
        made += rc[i] == 0;
        assert_true(rc[i] == 0 || rc[i] == ERR_EXISTS);
    }
    assert_int_equal(made, 1);
    struct job_lease l = claim_lease(s, "w", 1000);
    int again;
    submit_training(&again);
    assert_int_equal(again, ERR_EXISTS);
    OK(job_publish(s, &l, "{}", &err));
    submit_training(&again);
    assert_int_equal(again, 0);
}

static void test_snapshot_and_curves(void **state)
{
    (void)state;
    struct job_lease l = train_lease();
    struct snapshot a, again;
    struct buf m = BUF_INIT;
    buf_puts(&m, "{\"clips\":[]}");
    OK(snapshot_add(s, b, &l, "p1", &m, 3, 40, &a, &err));
    expect_text(b, a.manifest_key, "{\"clips\":[]}");
    buf_puts(&m, " ");
    OK(snapshot_add(s, b, &l, "p1", &m, 9, 9, &again, &err)); /* a job has one snapshot */
    assert_string_equal(a.id, again.id);
    assert_int_equal(again.labels, 40);
    snapshot_fini(&again);
    snapshot_fini(&a);
    buf_free(&m);
    assert_int_equal(snapshot_of_job(s, l.id, &a, &err), 1);
    snapshot_fini(&a);
    assert_int_equal(snapshot_of_job(s, "none", &a, &err), 0);
    for (int step = 10; step <= 40; step += 10)
        OK(curve_add(s, &l, step, (struct curve_value[]){{"loss", 1.0 / step}, {"lr", step * 1e-4}}, 2, &err));
    OK(curve_add(s, &l, 20, (struct curve_value[]){{"loss", 7}}, 1, &err)); /* begun again from a checkpoint */
    struct curve_points c;
    OK(curve_list(s, l.id, &c, &err));
    assert_int_equal(c.n, 6);
    assert_int_equal(c.items[1].step, 20);
    assert_true(c.items[1].value == 7);
    assert_string_equal(c.items[2].name, "lr");
    curve_points_fini(&c);
    struct event_list ev;
    OK(job_events(s, l.id, 0, 100, &ev, &err));
    assert_string_equal(ev.items[ev.n - 1].type, "curve");
    assert_string_equal(ev.items[ev.n - 1].data, "{\"step\":20,\"name\":\"loss\",\"value\":7}");
    event_list_fini(&ev);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_versions, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alias_and_rollback, setup, teardown),
        cmocka_unit_test_setup_teardown(test_delete, setup, teardown),
        cmocka_unit_test_setup_teardown(test_builtin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pin, setup, teardown),
        cmocka_unit_test_setup_teardown(test_conclude, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_training, setup, teardown),
        cmocka_unit_test_setup_teardown(test_snapshot_and_curves, setup, teardown),
    };
    static const struct blob_backend *const disk = &blob_backends[0];
    blob_backend = disk;
    RUN_OVER_BACKENDS(tests);
}
