/*
 * Full disks, of the embedded backends: a clear ERR_FULL, the old data intact, and work goes on when there is room again. A small tmpfs when we may
 * mount one, else a limit on file size.
 */
#include "tests/unit/store/blobs.h"

#include <errno.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char mount_point[300];

static int mount_small(void)
{
    snprintf(mount_point, sizeof(mount_point), "%s/small", temp_root);
    return mkdir(mount_point, 0755) == 0 && mount("none", mount_point, "tmpfs", 0, "size=2m") == 0 ? 0 : -1;
}

static void unmount_small(void)
{
    umount2(mount_point, MNT_DETACH);
    rmdir(mount_point);
}

static struct store *open_small(const char *dir)
{
    char url[URL_MAX];
    struct store *s;
    snprintf(url, sizeof(url), "sqlite:%s/db", dir);
    OK(store_open(url, NULL, &s, &err));
    return s;
}

/* Queues jobs with large parameters until it is refused; returns how many were acknowledged. */
static int fill_with_jobs(struct store *s)
{
    static char params[20000];
    memset(params, 'x', sizeof(params) - 1);
    for (int n = 0; n < 1000; n++) {
        struct job_new j = {.kind = JOB_saliency, .params = params};
        struct job out;
        int rc = job_create(s, &j, &out, NULL, &err);
        if (rc) {
            if (rc != ERR_FULL)
                fail_msg("not ERR_FULL: %s", err.msg);
            return n;
        }
        job_fini(&out);
    }
    fail_msg("the disk never filled");
    return 0;
}

static void test_database_full(void **state)
{
    (void)state;
    if (mount_small()) {
        print_message("SKIPPED: may not mount a tmpfs\n");
        skip();
    }
    struct store *s = open_small(mount_point);
    char path[400];
    snprintf(path, sizeof(path), "%s/ballast", mount_point);
    static const char ballast[500000];
    OK(fs_write_atomic(path, ballast, sizeof(ballast), &err));
    int made = fill_with_jobs(s);
    assert_true(made > 5);
    struct store_counts c;
    OK(store_counts(s, &c, &err)); /* reading goes on */
    assert_int_equal(c.jobs[JOB_STATE_queued][JOB_saliency], made);
    unlink(path);
    OK(store_check(s, &err));
    struct job_lease l = claim_lease(s, "w", 1000);
    OK(job_publish(s, &l, "{}", &err));
    store_close(s);
    s = open_small(mount_point);
    OK(store_counts(s, &c, &err));
    assert_int_equal(c.jobs[JOB_STATE_queued][JOB_saliency], made - 1);
    store_close(s);
    unmount_small();
}

static void test_blobs_full(void **state)
{
    (void)state;
    if (mount_small()) {
        print_message("SKIPPED: may not mount a tmpfs\n");
        skip();
    }
    struct blobs_opts o = {.min_free_bytes = 200000};
    struct blobs *b;
    OK(blobs_open(mount_point, &o, &b, &err));
    static char data[300000];
    char key[32];
    int n = 0, rc;
    do {
        snprintf(key, sizeof(key), "fill/%d", n);
        rc = blob_put(b, key, data, sizeof(data), &err);
    } while (rc == 0 && ++n < 100);
    assert_int_equal(rc, ERR_FULL);
    assert_true(n > 2);
    assert_int_equal(blob_exists(b, key, &err), 0);
    char temp[400];
    snprintf(temp, sizeof(temp), "%s/.tmp", mount_point);
    struct fs_list l;
    OK(fs_list(temp, &l, &err)); /* nothing is left behind */
    assert_int_equal(l.n, 0);
    fs_list_free(&l);
    assert_int_equal(blobs_check(b, &err) == 0, blobs_free_bytes(b) > 0);
    OK(blob_delete(b, "fill/0", &err));
    OK(blob_delete(b, "fill/1", &err));
    OK(blob_put(b, key, data, sizeof(data), &err));
    blobs_close(b);
    unmount_small();
}

/* The same by RLIMIT_FSIZE, which anybody may lower. In a child: the limit cannot be raised again. */
static int limited(const char *dir)
{
    struct store *s = open_small(dir);
    struct blobs *b;
    char blob_dir[400];
    snprintf(blob_dir, sizeof(blob_dir), "%s/blobs", dir);
    OK(blobs_open(blob_dir, NULL, &b, &err));
    put_text(b, "small", "kept");
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit lim = {600000, 600000};
    if (setrlimit(RLIMIT_FSIZE, &lim))
        return 1;
    static char data[700000];
    if (blob_put(b, "small", data, sizeof(data), &err) != ERR_FULL)
        return 2;
    expect_text(b, "small", "kept");
    if (fill_with_jobs(s) < 5)
        return 3;
    store_close(s);
    blobs_close(b);
    return 0;
}

static void test_file_limit(void **state)
{
    (void)state;
    char dir[300];
    snprintf(dir, sizeof(dir), "%s/limited", temp_root);
    assert_int_equal(mkdir(dir, 0755), 0);
    pid_t pid = fork();
    if (pid == 0)
        _exit(limited(dir));
    int status;
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    struct store *s = open_small(dir);
    OK(store_check(s, &err));
    store_close(s);
}

/* A database directory that cannot be written any more is an error, not a crash or a wait. */
static void test_read_only(void **state)
{
    (void)state;
    if (mount_small()) {
        print_message("SKIPPED: may not mount a tmpfs\n");
        skip();
    }
    struct store *s = open_small(mount_point);
    struct job j = plain_job(s);
    store_close(s);
    assert_int_equal(mount("none", mount_point, NULL, MS_REMOUNT | MS_RDONLY, NULL), 0);
    char url[URL_MAX];
    snprintf(url, sizeof(url), "sqlite:%s/db", mount_point);
    int rc = store_open(url, NULL, &s, &err);
    if (rc == 0) {
        assert_int_equal(store_check(s, &err), ERR_IO);
        store_close(s);
    } else {
        assert_int_equal(rc, ERR_IO);
    }
    struct blobs *b;
    rc = blobs_open(mount_point, NULL, &b, &err);
    assert_int_equal(rc, ERR_IO);
    job_fini(&j);
    unmount_small();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_database_full),
        cmocka_unit_test(test_blobs_full),
        cmocka_unit_test(test_file_limit),
        cmocka_unit_test(test_read_only),
    };
    backend = &backends[0];
    blob_backend = &blob_backends[0];
    temp_make();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    temp_remove();
    return failed;
}
