/* Migrations: from every older version to the newest with the data kept, never from a newer one, all or nothing. */
#include "tests/unit/store/harness.h"

#include "core/store/db.h"

static struct db *open_raw(const char *url)
{
    static const struct store_opts opts = {.busy_timeout_ms = 2000, .max_connections = 1};
    const struct db_driver *drv = strncmp(url, "sqlite:", 7) == 0 ? &db_sqlite : &db_postgres;
    struct db *db;
    OK(drv->open(url, &opts, &db, &err));
    return db;
}

static void close_raw(struct db *db)
{
    db_forget(db);
    db->drv->close(db);
}

static void sql(struct db *db, const char *text)
{
    OK(db->drv->script(db, text, &err));
}

static int64_t version_of(struct db *db)
{
    int64_t v;
    OK(db_scalar(db, "SELECT version FROM schema_version", DB_NO_ARGS, 0, &v, &err));
    return v;
}

static void fill_version_1(struct db *db)
{
    sql(db, "INSERT INTO clips (id, sha256, frames, width, height, fps, duration_s, bytes, created_ms)"
            " VALUES ('01hc', 'ab', 3, 64, 48, 25, 0.12, 1000, 5)");
    sql(db, "INSERT INTO jobs (id, kind, state, created_ms, max_attempts, progress_unit, clip_id, params, event_seq)"
            " VALUES ('01hj', 'saliency', 'queued', 6, 3, 'frames', '01hc', '{}', 1)");
    sql(db, "INSERT INTO job_events (job_id, seq, type, data, at_ms) VALUES ('01hj', 1, 'state', '{}', 6)");
}

static void test_from_each(void **state)
{
    (void)state;
    for (int from = 0; from <= schema_newest(); from++) {
        char url[URL_MAX];
        backend->fresh(url);
        struct db *db = open_raw(url);
        OK(schema_migrate(db, from, &err));
        if (from > 0) {
            assert_int_equal(version_of(db), from);
            fill_version_1(db);
        }
        close_raw(db);
        struct store *s;
        OK(store_open(url, NULL, &s, &err));
        OK(store_check(s, &err));
        if (from > 0) {
            struct clip_record c;
            OK(clip_get(s, "01hc", &c, &err));
            assert_int_equal(c.refs, 1);
            clip_record_fini(&c);
            struct job_lease l = claim_lease(s, "w", 1000);
            assert_string_equal(l.id, "01hj");
        }
        store_close(s);
        db = open_raw(url);
        assert_int_equal(version_of(db), schema_newest());
        close_raw(db);
    }
}

static void test_newer_refused(void **state)
{
    (void)state;
    char url[URL_MAX];
    struct store *s = open_fresh(NULL, url);
    store_close(s);
    struct db *db = open_raw(url);
    sql(db, "UPDATE schema_version SET version = version + 1");
    close_raw(db);
    assert_int_equal(store_open(url, NULL, &s, &err), ERR_UNSUPPORTED);
    assert_null(s);
    assert_non_null(strstr(err.msg, "upgrade"));
}

/* A step that fails leaves the database as it was. */
static void test_all_or_nothing(void **state)
{
    (void)state;
    char url[URL_MAX];
    backend->fresh(url);
    struct db *db = open_raw(url);
    OK(schema_migrate(db, 1, &err));
    sql(db, "CREATE TABLE models (x BIGINT)"); /* in the way of step 3 */
    close_raw(db);
    struct store *s;
    assert_true(store_open(url, NULL, &s, &err) < 0);
    assert_non_null(strstr(err.msg, "schema step 3"));
    db = open_raw(url);
    assert_int_equal(version_of(db), 1);
    sql(db, "DROP TABLE models");
    close_raw(db);
    OK(store_open(url, NULL, &s, &err));
    store_close(s);
}

static void test_constraints(void **state)
{
    (void)state;
    char url[URL_MAX];
    struct store *s = open_fresh(NULL, url);
    struct db *db = open_raw(url);
    fill_version_1(db);
    assert_int_equal(db->drv->script(db, "UPDATE jobs SET state = 'lost'", &err), ERR_CONFLICT);
    assert_int_equal(db->drv->script(db, "UPDATE jobs SET state = 'running'", &err), ERR_CONFLICT);
    assert_int_equal(db->drv->script(db, "INSERT INTO job_events VALUES ('nosuch', 1, 'x', '{}', 1)", &err),
                     ERR_CONFLICT);
    assert_int_equal(db->drv->script(db, "INSERT INTO job_events VALUES ('01hj', 1, 'x', '{}', 1)", &err), ERR_EXISTS);
    OK(job_delete(s, "01hj", &err));
    int64_t left;
    OK(db_scalar(db, "SELECT count(*) FROM job_events", DB_NO_ARGS, -1, &left, &err));
    assert_int_equal(left, 0);
    close_raw(db);
    store_close(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_from_each),
        cmocka_unit_test(test_newer_refused),
        cmocka_unit_test(test_all_or_nothing),
        cmocka_unit_test(test_constraints),
    };
    RUN_OVER_BACKENDS(tests);
}
