/* Stored data sets, over every database: names that change their meaning, and what becomes of the bytes. */
#include "tests/unit/store/blobs.h"

#include "core/store/evalset.h"

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

static struct evalset put(const char *text, const char *tenant, const char *name, bool *existed)
{
    char path[FS_PATH_MAX];
    OK(blobs_temp(b, path, &err));
    OK(fs_write_atomic(path, text, strlen(text), &err));
    struct evalset d = {.tenant = (char *)tenant, .name = (char *)name, .sequences = 2, .frames = 9, .masks = 7}, out;
    OK(evalset_put(s, b, path, &d, &out, existed, &err));
    assert_false(fs_exists(path));
    return out;
}

static void expect_blob(const struct evalset *d, int want)
{
    char key[EVALSET_KEY_SIZE];
    evalset_key(d->sha256, key);
    assert_int_equal(blob_exists(b, key, &err), want);
}

static void sweep(bool deep)
{
    clock_sleep_ms(3);
    OK(store_sweep(s, b, deep, 0, NULL, &err));
}

static void names_change_their_meaning(void **state)
{
    (void)state;
    bool existed = true;
    struct evalset one = put("zip one", "a", "val", &existed), same, other, got;
    assert_false(existed);
    assert_int_equal(one.bytes, 7);
    assert_int_equal(one.masks, 7);
    same = put("zip one", "a", "val", &existed);
    assert_true(existed);
    other = put("zip two", "a", "val", &existed);
    assert_true(existed);
    assert_int_equal(other.created_ms, one.created_ms);
    OK(evalset_get(s, "a", "val", &got, &err));
    assert_string_equal(got.sha256, other.sha256);
    assert_int_equal(evalset_get(s, "b", "val", &(struct evalset){0}, &err), ERR_NOTFOUND);
    sweep(false);
    expect_blob(&one, 0);
    expect_blob(&other, 1);
    OK(evalset_delete(s, "a", "val", &err));
    assert_int_equal(evalset_delete(s, "a", "val", &err), ERR_NOTFOUND);
    sweep(false);
    expect_blob(&other, 0);
    evalset_fini(&one);
    evalset_fini(&same);
    evalset_fini(&other);
    evalset_fini(&got);
}

static void tenants_share_bytes_not_names(void **state)
{
    (void)state;
    struct evalset a = put("zip", "a", "val", NULL), c = put("zip", "c", "val", NULL);
    OK(evalset_delete(s, "a", "val", &err));
    sweep(true);
    expect_blob(&c, 1);
    OK(evalset_delete(s, "c", "val", &err));
    sweep(true);
    expect_blob(&c, 0);
    evalset_fini(&a);
    evalset_fini(&c);
}

static void an_unfinished_evaluation_keeps_its_data(void **state)
{
    (void)state;
    struct evalset d = put("zip of a job", "", "val", NULL);
    char params[128];
    snprintf(params, sizeof(params), "{\"sha256\":\"%s\"}", d.sha256);
    struct job j = make_job(s, &(struct job_new){.kind = JOB_eval, .params = params});
    OK(evalset_delete(s, "", "val", &err));
    sweep(true);
    expect_blob(&d, 1);
    OK(job_cancel(s, j.id, NULL, &err));
    sweep(true);
    expect_blob(&d, 0);
    job_fini(&j);
    evalset_fini(&d);
}

static void lists_go_page_by_page(void **state)
{
    (void)state;
    static const char *const names[] = {"alpha", "beta", "gamma"};
    char *cursor = NULL;
    for (int i = 2; i >= 0; i--) {
        struct evalset d = put(names[i], "", names[i], NULL);
        evalset_fini(&d);
    }
    struct evalset x = put("other", "x", "zeta", NULL);
    evalset_fini(&x);
    for (int i = 0; i < 3; i++) {
        struct evalset_list l;
        OK(evalset_list(s, "", cursor, 1, &l, &err));
        assert_int_equal(l.n, 1);
        assert_string_equal(l.items[0].name, names[i]);
        assert_int_equal(l.next_cursor == NULL, i == 2);
        free(cursor);
        cursor = l.next_cursor ? strdup(l.next_cursor) : NULL;
        evalset_list_fini(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_change_their_meaning, setup, teardown),
        cmocka_unit_test_setup_teardown(tenants_share_bytes_not_names, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unfinished_evaluation_keeps_its_data, setup, teardown),
        cmocka_unit_test_setup_teardown(lists_go_page_by_page, setup, teardown),
    };
    blob_backend = &blob_backends[0];
    RUN_OVER_BACKENDS(tests);
}
