/*
 * harness.h: the backends the store tests run over. Each test is written against a URL; main runs the whole group once per backend.
 */
#ifndef TESTS_UNIT_STORE_HARNESS_H
#define TESTS_UNIT_STORE_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <errno.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/store/store.h"

#define URL_MAX 512

struct backend {
    const char *name;
    int (*available)(void);           /* 0: says why and is skipped */
    void (*fresh)(char url[URL_MAX]); /* the URL of an empty database */
    void (*stop)(void);
};

static const struct backend *backend;
static char temp_root[256];

/* Fails the test with the store's message. */
static void check_rc(int rc, const struct err *e, const char *what, const char *file, int line)
{
    if (rc < 0) {
        print_error("%s: %d %s\n", what, rc, e->msg);
        _fail(file, line);
    }
}
#define OK(call)                                           \
    do {                                                   \
        err = (struct err){0};                             \
        check_rc((call), &err, #call, __FILE__, __LINE__); \
    } while (0)
static struct err err;

static void temp_make(void)
{
    snprintf(temp_root, sizeof(temp_root), "%s/salient-store-XXXXXX", getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(temp_root))
        abort();
}

static void temp_remove(void)
{
    fs_remove_tree(temp_root, NULL);
}

#include "tests/unit/store/postgres.h" /* needs the above */

/* ---- SQLite ----------------------------------------------------------------------------------------------------- */

static int sqlite_available(void)
{
    return 1;
}

static void sqlite_fresh(char url[URL_MAX])
{
    static int n;
    snprintf(url, URL_MAX, "sqlite:%s/db-%d-%d.sqlite", temp_root, (int)getpid(), n++);
}

static void sqlite_stop(void)
{
}

static const struct backend backends[] = {
    {"sqlite", sqlite_available, sqlite_fresh, sqlite_stop},
    {"postgresql", postgres_available, postgres_fresh, postgres_stop},
};

/* Runs a group once per backend; the result is main's. */
#define RUN_OVER_BACKENDS(tests)                                                     \
    do {                                                                             \
        int failed = 0;                                                              \
        temp_make();                                                                 \
        for (size_t at = 0; at < sizeof(backends) / sizeof(backends[0]); at++) {     \
            backend = &backends[at];                                                 \
            if (!backend->available())                                               \
                continue;                                                            \
            failed += cmocka_run_group_tests_name(backend->name, tests, NULL, NULL); \
            backend->stop();                                                         \
        }                                                                            \
        temp_remove();                                                               \
        return failed;                                                               \
    } while (0)

/* ---- small things ----------------------------------------------------------------------------------------------- */

static inline struct store *open_fresh(const struct store_opts *opts, char url[URL_MAX])
{
    struct store *s = NULL;
    backend->fresh(url);
    OK(store_open(url, opts, &s, &err));
    return s;
}

static inline struct job make_job(struct store *s, const struct job_new *n)
{
    struct job j;
    OK(job_create(s, n, &j, NULL, &err));
    return j;
}

static inline struct job plain_job(struct store *s)
{
    struct job_new n = {.kind = JOB_saliency, .progress_total = 10};
    return make_job(s, &n);
}

/* Claims, checks that there was something, and returns the lease. */
static inline struct job_lease claim_lease(struct store *s, const char *worker, int64_t lease_ms)
{
    struct job j;
    int rc = job_claim(s, worker, JOB_KINDS_ALL, lease_ms, &j, &err);
    check_rc(rc, &err, "job_claim", __FILE__, __LINE__);
    assert_int_equal(rc, 1);
    struct job_lease l = job_lease_of(&j);
    job_fini(&j);
    return l;
}

static inline void expect_state(struct store *s, const char *id, const char *state)
{
    struct job j;
    OK(job_get(s, id, &j, &err));
    assert_string_equal(j.state, state);
    job_fini(&j);
}

#endif
