/* blobs.h: the blob backends that tests run over, like harness.h for databases. */
#ifndef TESTS_UNIT_STORE_BLOBS_H
#define TESTS_UNIT_STORE_BLOBS_H

#include "tests/unit/store/harness.h"
#include "tests/unit/store/seaweed.h"

struct blob_backend {
    const char *name;
    int (*available)(void);
    void (*fresh)(char url[URL_MAX]); /* URL of an empty place */
    void (*stop)(void);
};

static const struct blob_backend *blob_backend;

static int disk_available(void)
{
    return 1;
}

static void disk_fresh(char url[URL_MAX])
{
    static int n;
    snprintf(url, URL_MAX, "%s/blobs-%d-%d", temp_root, (int)getpid(), n++);
}

static void disk_stop(void)
{
}

static const struct blob_backend blob_backends[] = {
    {"disk", disk_available, disk_fresh, disk_stop},
    {"s3", seaweed_available, seaweed_fresh, seaweed_stop},
};

#define RUN_OVER_BLOBS(tests)                                                              \
    do {                                                                                   \
        int failed = 0;                                                                    \
        temp_make();                                                                       \
        for (size_t at = 0; at < sizeof(blob_backends) / sizeof(blob_backends[0]); at++) { \
            blob_backend = &blob_backends[at];                                             \
            if (!blob_backend->available())                                                \
                continue;                                                                  \
            failed += cmocka_run_group_tests_name(blob_backend->name, tests, NULL, NULL);  \
            blob_backend->stop();                                                          \
        }                                                                                  \
        temp_remove();                                                                     \
        return failed;                                                                     \
    } while (0)

static inline struct blobs *blobs_fresh(void)
{
    static const struct blobs_opts opts = {.min_free_bytes = 1};
    char url[URL_MAX];
    struct blobs *b;
    blob_backend->fresh(url);
    OK(blobs_open(url, &opts, &b, &err));
    return b;
}

static inline void put_text(struct blobs *b, const char *key, const char *text)
{
    OK(blob_put(b, key, text, strlen(text), &err));
}

static inline void expect_text(struct blobs *b, const char *key, const char *text)
{
    struct buf got = BUF_INIT;
    OK(blob_get(b, key, 1 << 20, &got, &err));
    assert_string_equal(got.data ? got.data : "", text);
    buf_free(&got);
}

#endif
