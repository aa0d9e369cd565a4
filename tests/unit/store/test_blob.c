/* Blobs over every backend: keys, atomic puts, ranges, lists, removal, concurrency. */
#include "tests/unit/store/blobs.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>

static struct blobs *b;

static int setup(void **state)
{
    (void)state;
    b = blobs_fresh();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    blobs_close(b);
    return 0;
}

static void test_keys(void **state)
{
    (void)state;
    static const char *const good[] = {"a", "clips/0123", "jobs/x/1/maps/00000.png", "A-b_c.d/e..f"};
    static const char *const bad[] = {"",      "/",    "/a",  "a/",   "a//b", ".",        "..",   "../a", "a/../b",
                                      "a/./b", "a/.b", "a b", "a\\b", "a%2e", "\xc3\xa9", "a\nb", "a/..", "~/a:b"};
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++)
        assert_true(blob_key_valid(good[i]));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct blob_reader *r;
        struct blob_stat st;
        assert_false(blob_key_valid(bad[i]));
        assert_int_equal(blob_put(b, bad[i], "x", 1, &err), ERR_INVALID);
        assert_int_equal(blob_stat(b, bad[i], &st, &err), ERR_INVALID);
        assert_int_equal(blob_reader_open(b, bad[i], 0, -1, &r, &err), ERR_INVALID);
        assert_int_equal(blob_delete(b, bad[i], &err), ERR_INVALID);
    }
    char longest[BLOB_KEY_MAX + 2];
    memset(longest, 'k', sizeof(longest));
    for (int i = 100; i < BLOB_KEY_MAX; i += 100)
        longest[i] = '/';
    longest[BLOB_KEY_MAX + 1] = '\0';
    assert_false(blob_key_valid(longest));
    longest[BLOB_KEY_MAX] = '\0';
    put_text(b, longest, "long");
    expect_text(b, longest, "long");
}

static void test_put_get(void **state)
{
    (void)state;
    struct blob_stat first, second;
    put_text(b, "a/b/c", "hello");
    expect_text(b, "a/b/c", "hello");
    OK(blob_stat(b, "a/b/c", &first, &err));
    assert_int_equal(first.bytes, 5);
    assert_true(llabs(first.modified_ms - clock_wall_ms()) < 60000);
    put_text(b, "a/b/c", "world");
    expect_text(b, "a/b/c", "world");
    OK(blob_stat(b, "a/b/c", &second, &err));
    assert_string_not_equal(first.etag, second.etag);
    put_text(b, "empty", "");
    expect_text(b, "empty", "");
    OK(blob_stat(b, "empty", &first, &err));
    assert_int_equal(first.bytes, 0);
    struct buf got = BUF_INIT;
    assert_int_equal(blob_get(b, "nosuch", 10, &got, &err), ERR_NOTFOUND);
    assert_int_equal(blob_get(b, "a/b", 10, &got, &err), ERR_NOTFOUND);     /* a folder */
    assert_int_equal(blob_get(b, "a/b/c/d", 10, &got, &err), ERR_NOTFOUND); /* below a blob */
    assert_int_equal(blob_get(b, "a/b/c", 4, &got, &err), ERR_LIMIT);
    assert_int_equal(got.len, 0);
    buf_free(&got);
    assert_int_equal(blob_exists(b, "a/b/c", &err), 1);
    assert_int_equal(blob_exists(b, "a/b/d", &err), 0);
}

static void expect_range(const char *key, int64_t offset, int64_t len, const char *want)
{
    struct blob_reader *r;
    OK(blob_reader_open(b, key, offset, len, &r, &err));
    char got[64];
    size_t n = 0;
    for (int64_t k; (k = blob_read(r, got + n, 3, &err)) != 0; n += (size_t)k) {
        assert_true(k > 0);
        assert_true(n + (size_t)k < sizeof(got));
    }
    got[n] = '\0';
    blob_reader_close(r);
    assert_string_equal(got, want);
}

static void test_ranges(void **state)
{
    (void)state;
    put_text(b, "r", "0123456789");
    expect_range("r", 0, -1, "0123456789");
    expect_range("r", 3, 4, "3456");
    expect_range("r", 8, 100, "89");
    expect_range("r", 10, -1, "");
    expect_range("r", 2, 0, "");
    struct blob_reader *r;
    assert_int_equal(blob_reader_open(b, "r", 11, -1, &r, &err), ERR_LIMIT);
    assert_int_equal(blob_reader_open(b, "r", -1, 5, &r, &err), ERR_LIMIT);
    assert_null(r);
}

static void test_writer(void **state)
{
    (void)state;
    struct blob_writer *w;
    put_text(b, "w", "old");
    OK(blob_writer_open(b, "w", &w, &err));
    OK(blob_write(w, "new ", 4, &err));
    OK(blob_write(w, "", 0, &err));
    OK(blob_write(w, "content", 7, &err));
    expect_text(b, "w", "old"); /* not before the commit */
    OK(blob_writer_commit(w, &err));
    expect_text(b, "w", "new content");
    OK(blob_writer_open(b, "w", &w, &err));
    OK(blob_write(w, "thrown away", 11, &err));
    blob_writer_abort(w);
    expect_text(b, "w", "new content");
}

/* Larger than any buffer or part. */
static void test_large(void **state)
{
    (void)state;
    enum { SIZE = 21 * 1024 * 1024 + 17 };
    unsigned char *data = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        data[i] = (unsigned char)(i * 2654435761u >> 13);
    struct blob_writer *w;
    OK(blob_writer_open(b, "large", &w, &err));
    for (size_t i = 0; i < SIZE; i += 1000003)
        OK(blob_write(w, data + i, SIZE - i < 1000003 ? SIZE - i : 1000003, &err));
    OK(blob_writer_commit(w, &err));
    char path[300], want[SHA256_HEX_SIZE], got[SHA256_HEX_SIZE];
    snprintf(path, sizeof(path), "%s/copy", temp_root);
    OK(blob_get_file(b, "large", path, &err));
    sha256_hex(data, SIZE, want);
    OK(sha256_file_hex(path, got, &err));
    assert_string_equal(got, want);
    OK(blob_put_file(b, "large2", path, false, &err));
    assert_true(fs_exists(path));
    OK(blob_put_file(b, "large3", path, true, &err));
    assert_false(fs_exists(path));
    for (int i = 2; i <= 3; i++) {
        struct buf all = BUF_INIT;
        OK(blob_get(b, i == 2 ? "large2" : "large3", SIZE, &all, &err));
        assert_int_equal(all.len, SIZE);
        assert_memory_equal(all.data, data, SIZE);
        buf_free(&all);
    }
    assert_int_equal(blob_put_file(b, "x", "/nonexistent", true, &err), ERR_NOTFOUND);
    free(data);
}

static void test_temp(void **state)
{
    (void)state;
    char path[FS_PATH_MAX];
    OK(blobs_temp(b, path, &err));
    int fd = open(path, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "uploaded", 8), 8);
    close(fd);
    OK(blob_put_file(b, "up/load", path, true, &err));
    assert_false(fs_exists(path));
    expect_text(b, "up/load", "uploaded");
}

struct listing {
    char text[400];
    int stop_after;
};

static int note(void *arg, const char *key, const struct blob_stat *st)
{
    struct listing *l = arg;
    snprintf(l->text + strlen(l->text), sizeof(l->text) - strlen(l->text), "%s:%d ", key, (int)st->bytes);
    return l->stop_after > 0 && --l->stop_after == 0 ? 7 : 0;
}

static void expect_list(const char *prefix, const char *want)
{
    struct listing l = {"", 0};
    OK(blob_list(b, prefix, note, &l, &err));
    assert_string_equal(l.text, want);
}

static int by_text(const void *a, const void *c)
{
    return strcmp(*(char *const *)a, *(char *const *)c);
}

/* As expect_list, where the folders may come in any order. */
static void expect_sorted(const char *prefix, const char *want)
{
    struct listing l = {"", 0};
    char *words[16], sorted[400] = "";
    size_t n = 0;
    OK(blob_list(b, prefix, note, &l, &err));
    for (char *w = strtok(l.text, " "); w; w = strtok(NULL, " "))
        words[n++] = w;
    qsort(words, n, sizeof(*words), by_text);
    for (size_t i = 0; i < n; i++)
        snprintf(sorted + strlen(sorted), sizeof(sorted) - strlen(sorted), "%s ", words[i]);
    assert_string_equal(sorted, want);
}

static void test_list(void **state)
{
    (void)state;
    static const char *const keys[] = {"j/a/1", "j/a.b", "j/a-b/x", "j/a/0/deep", "j/B", "jj/x", "z"};
    for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
        put_text(b, keys[i], "123");
    put_text(b, "n/2", "1");
    put_text(b, "n/10", "1");
    put_text(b, "n/1", "1");
    expect_list("n/", "n/1:1 n/10:1 n/2:1 ");
    OK(blob_delete_prefix(b, "n/", NULL, &err));
    expect_sorted("j/", "j/B:3 j/a-b/x:3 j/a.b:3 j/a/0/deep:3 j/a/1:3 ");
    expect_sorted("j/a/", "j/a/0/deep:3 j/a/1:3 ");
    expect_sorted("", "j/B:3 j/a-b/x:3 j/a.b:3 j/a/0/deep:3 j/a/1:3 jj/x:3 z:3 ");
    expect_list("none/", "");
    struct listing l = {"", 2};
    assert_int_equal(blob_list(b, "j/", note, &l, &err), 7);
    assert_int_equal(l.stop_after, 0);
    assert_int_equal(blob_list(b, "j", note, &l, &err), ERR_INVALID);
    assert_int_equal(blob_list(b, "../", note, &l, &err), ERR_INVALID);
}

static void test_delete(void **state)
{
    (void)state;
    put_text(b, "d/1/a", "x");
    put_text(b, "d/1/b/c", "x");
    put_text(b, "d/10/a", "x");
    int64_t n;
    OK(blob_delete_prefix(b, "d/1/", &n, &err));
    assert_int_equal(n, 2);
    expect_list("", "d/10/a:1 ");
    OK(blob_delete(b, "d/10/a", &err));
    OK(blob_delete(b, "d/10/a", &err)); /* already gone */
    OK(blob_delete(b, "d", &err));      /* a folder is no blob */
    expect_list("", "");
    assert_int_equal(blob_delete_prefix(b, "", &n, &err), ERR_INVALID);
    OK(blob_delete_prefix(b, "never/", &n, &err));
    put_text(b, "d", "a key may follow where a folder was");
}

/* One key under writers and readers: a reader sees one of the contents, whole. */
static void *rewrite(void *arg)
{
    struct err e;
    char text[5000];
    for (int i = 0; i < 24; i++) {
        memset(text, (int)(intptr_t)arg, sizeof(text));
        if (blob_put(b, "hot/key", text, sizeof(text), &e))
            return (void *)1;
        if (i % 8 == 7 && blob_delete(b, "hot/key", &e))
            return (void *)1;
    }
    return NULL;
}

static int torn_reads(void)
{
    int torn = 0;
    for (int i = 0; i < 60; i++) {
        struct buf got = BUF_INIT;
        int rc = blob_get(b, "hot/key", 10000, &got, &err);
        if (rc == 0) {
            torn += got.len != 5000;
            for (size_t k = 1; k < got.len; k++)
                torn += got.data[k] != got.data[0];
        } else {
            torn += rc != ERR_NOTFOUND && rc != ERR_CONFLICT;
        }
        buf_free(&got);
    }
    return torn;
}

static void test_concurrent(void **state)
{
    (void)state;
    pthread_t t[3];
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, rewrite, (void *)(intptr_t)('a' + i));
    int torn = torn_reads(), failed = 0;
    for (int i = 0; i < 3; i++) {
        void *rc;
        pthread_join(t[i], &rc);
        failed += rc != NULL;
    }
    assert_int_equal(torn, 0);
    assert_int_equal(failed, 0);
}

static void test_local_path(void **state)
{
    (void)state;
    put_text(b, "local/x", "bytes");
    char path[FS_PATH_MAX];
    int rc = blob_local_path(b, "local/x", path, &err);
    assert_true(rc >= 0);
    if (rc == 1)
        assert_int_equal(fs_size(path), 5);
    assert_int_equal(blob_local_path(b, "../x", path, &err), ERR_INVALID);
    OK(blobs_check(b, &err));
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_keys), T(test_put_get), T(test_ranges), T(test_writer),     T(test_large),
        T(test_temp), T(test_list),    T(test_delete), T(test_concurrent), T(test_local_path),
    };
    RUN_OVER_BLOBS(tests);
}
