/* core/base: errors, buffers, files, ids, queue, parallel for, options. */
#include "tests/unit/check.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/err.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/base/queue.h"
#include "core/base/rng.h"

static void err_carries_code_and_context(void **state)
{
    (void)state;
    struct err e = {0};
    assert_int_equal(err_set(&e, ERR_LIMIT, "too %s\nby far", "big"), ERR_LIMIT);
    assert_string_equal(e.msg, "too big by far");
    assert_int_equal(err_wrap(&e, "clip %d", 7), ERR_LIMIT);
    assert_string_equal(e.msg, "clip 7: too big by far");
    errno = ENOSPC;
    assert_int_equal(err_errno(&e, "x"), ERR_FULL);
    assert_string_equal(err_name(ERR_FULL), "full");
    assert_string_equal(err_name(ERR_LEASE_LOST), "lease_lost");
    assert_int_equal(err_set(NULL, ERR_IO, "x"), ERR_IO);
}

static void buf_grows_and_steals(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    for (int i = 0; i < 1000; i++)
        buf_printf(&b, "%d,", i);
    assert_false(b.failed);
    assert_memory_equal(b.data + b.len - 4, "999,", 5);
    assert_null(buf_reserve(&b, SIZE_MAX - 2));
    assert_true(b.failed);
    assert_null(buf_steal(&b, NULL));
    buf_puts(&b, "again");
    size_t n;
    char *s = buf_steal(&b, &n);
    assert_string_equal(s, "again");
    assert_int_equal(n, 5);
    free(s);
}

static void fs_writes_atomically_and_removes_trees(void **state)
{
    (void)state;
    char dir[] = "/tmp/salient-base-XXXXXX", path[FS_PATH_MAX], deep[FS_PATH_MAX];
    assert_non_null(mkdtemp(dir));
    struct err e = {0};
    snprintf(deep, sizeof(deep), "%s/a/b/c", dir);
    assert_int_equal(fs_mkdirs(deep, &e), 0);
    assert_int_equal(fs_join(path, deep, "10.png", &e), 0);
    assert_int_equal(fs_write_atomic(path, "hello", 5, &e), 0);
    assert_int_equal(fs_write_atomic(path, "other", 5, &e), 0);
    struct buf b = BUF_INIT;
    assert_int_equal(fs_read(path, 5, &b, &e), 0);
    assert_string_equal(b.data, "other");
    buf_reset(&b);
    assert_int_equal(fs_read(path, 4, &b, &e), ERR_LIMIT);
    buf_free(&b);
    snprintf(path, sizeof(path), "%s/pipe", dir); /* is written to, not replaced */
    assert_int_equal(mkfifo(path, 0600), 0);
    char got[4] = "";
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(fs_write_atomic(path, "abc", 3, &e), 0);
    assert_int_equal(read(fd, got, 3), 3);
    assert_string_equal(got, "abc");
    close(fd);
    snprintf(path, sizeof(path), "%s/9.png", deep);
    assert_int_equal(fs_write_atomic(path, "", 0, &e), 0);
    struct fs_list l;
    assert_int_equal(fs_list(deep, &l, &e), 0);
    assert_int_equal(l.n, 2); /* no temporary file stays behind */
    assert_string_equal(l.names[0], "9.png");
    fs_list_free(&l);
    assert_int_equal(symlink("/tmp", (snprintf(path, sizeof(path), "%s/link", dir), path)), 0);
    assert_int_equal(fs_remove_tree(dir, &e), 0);
    assert_false(fs_exists(dir));
    assert_true(fs_exists("/tmp"));
    assert_int_equal(fs_remove_tree(dir, &e), 0);
    assert_int_equal(fs_read(dir, 10, &b, &e), ERR_NOTFOUND);
}

static void fs_natural_order(void **state)
{
    (void)state;
    assert_true(fs_natural_cmp("2.png", "10.png") < 0);
    assert_true(fs_natural_cmp("a010", "a10") != 0);
    assert_true(fs_natural_cmp("f99999999999999999999999", "f100000000000000000000000") < 0);
    assert_int_equal(fs_natural_cmp("x", "x"), 0);
    const char *stem;
    assert_int_equal(fs_stem("/d.e/frame.001.jpg", &stem), 9);
    assert_memory_equal(stem, "frame.001", 9);
}

static void hash_and_ids(void **state)
{
    (void)state;
    char hex[SHA256_HEX_SIZE], a[ID_SIZE], b[ID_SIZE];
    sha256_hex("abc", 3, hex); /* FIPS 180-2 appendix B.1 */
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    id_new(a);
    id_new(b);
    assert_true(id_valid(a) && id_valid(b));
    assert_string_not_equal(a, b);
    assert_false(id_valid("../../../etc/passwd"));
    assert_false(id_valid(""));
    char ts[CLOCK_RFC3339_SIZE];
    assert_string_equal(clock_rfc3339(1700000000123, ts), "2023-11-14T22:13:20.123Z");
    assert_string_equal(clock_rfc3339(-1, ts), "1969-12-31T23:59:59.999Z");
}

static void rng_is_reproducible(void **state)
{
    (void)state;
    struct rng a, b;
    rng_seed(&a, 7);
    rng_seed(&b, 7);
    double mean = 0;
    for (int i = 0; i < 10000; i++) {
        double x = rng_normal(&a);
        assert_true(x == rng_normal(&b));
        mean += x / 10000;
        assert_in_range(rng_int(&a, 6), 0, 5);
        (void)rng_int(&b, 6);
    }
    assert_true(mean > -0.05 && mean < 0.05);
}

static void *producer(void *q)
{
    for (intptr_t i = 1; i <= 1000; i++)
        assert_true(queue_push(q, (void *)i));
    queue_close(q);
    return NULL;
}

static void queue_hands_over_in_order(void **state)
{
    (void)state;
    struct queue *q = queue_new(3);
    pthread_t t;
    pthread_create(&t, NULL, producer, q);
    void *p;
    for (intptr_t i = 1; i <= 1000; i++) {
        assert_true(queue_pop(q, &p));
        assert_true((intptr_t)p == i);
    }
    assert_false(queue_pop(q, &p));
    assert_false(queue_push(q, q));
    pthread_join(t, NULL);
    queue_free(q);
}

static void add_one(void *arg, int i)
{
    atomic_int *counts = arg;
    atomic_fetch_add(&counts[i], 1);
}

static void nested(void *arg, int i)
{
    (void)i;
    par_for(100, add_one, arg);
}

static void par_runs_each_index_once(void **state)
{
    (void)state;
    par_init(3);
    assert_int_equal(par_threads(), 3);
    static atomic_int counts[5000], inner[100];
    for (int round = 0; round < 20; round++)
        par_for(5000, add_one, counts);
    for (int i = 0; i < 5000; i++)
        assert_int_equal(counts[i], 20);
    par_for(50, nested, inner);
    for (int i = 0; i < 100; i++)
        assert_int_equal(inner[i], 50);
}

static void options_by_precedence(void **state)
{
    (void)state;
    const char *listen = "default", *config = NULL;
    int64_t limit = 1, workers = 1;
    bool open = true;
    struct opt_multi data = {.n = 0};
    const struct opt opts[] = {
        {"listen", 'l', OPT_STR, &listen, "ADDR", "where"},
        {"limit", 0, OPT_SIZE, &limit, "N", "bytes"},
        {"workers", 0, OPT_INT, &workers, "N", "processes"},
        {"open", 0, OPT_BOOL, &open, NULL, "no keys"},
        {"data", 0, OPT_MULTI, &data, "DIR", "folders"},
        {"config", 0, OPT_STR, &config, "FILE", "file"},
        {0},
    };
    const struct opt_cmd cmd = {"salient x", "IN", "test", opts, NULL};
    char file[] = "/tmp/salient-opt-XXXXXX";
    int fd = mkstemp(file);
    dprintf(fd, "# comment\nworkers = 5\nlimit = 2K\nlisten = from-file\n");
    close(fd);
    setenv("SALIENT_LIMIT", "3M", 1);
    const char *pos[2];
    size_t n;
    struct err e = {0};
    char *argv[] = {"x", "in", "--config", file, "-l", "flag", "--no-open", "--data=a", "--data", "b", NULL};
    assert_int_equal(opt_parse(&cmd, 10, argv, pos, 2, &n, &e), 0);
    assert_string_equal(listen, "flag");
    assert_int_equal(limit, 3 << 20);
    assert_int_equal(workers, 5);
    assert_false(open);
    assert_int_equal(data.n, 2);
    assert_int_equal(n, 1);
    static const char *const bad[] = {"--nope",       "--workers=x", "--workers=", "--limit=9999999999T",
                                      "--open=maybe", "--no-listen", "--limit=-1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char *av[] = {"x", (char *)bad[i], NULL};
        assert_int_equal(opt_parse(&cmd, 2, av, pos, 2, &n, &e), ERR_INVALID);
    }
    FILE *f = fopen(file, "w");
    fputs("unknown = 1\n", f);
    fclose(f);
    assert_int_equal(opt_parse(&cmd, 4, argv, pos, 2, &n, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, ":1: no option 'unknown'"));
    unsetenv("SALIENT_LIMIT");
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(err_carries_code_and_context),
        cmocka_unit_test(buf_grows_and_steals),
        cmocka_unit_test(fs_writes_atomically_and_removes_trees),
        cmocka_unit_test(fs_natural_order),
        cmocka_unit_test(hash_and_ids),
        cmocka_unit_test(rng_is_reproducible),
        cmocka_unit_test(queue_hands_over_in_order),
        cmocka_unit_test(par_runs_each_index_once),
        cmocka_unit_test(options_by_precedence),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
