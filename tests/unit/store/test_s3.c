/* What only S3 has: presigned URLs, long lists, bad credentials, an address nobody answers at, and answers from hell. */
#include <curl/curl.h>

#include "tests/unit/store/blobs.h"

static const struct blobs_opts opts;

static size_t into_buf(char *data, size_t size, size_t n, void *arg)
{
    buf_append(arg, data, size * n);
    return size * n;
}

static long fetch(const char *url, struct buf *body)
{
    CURL *c = curl_easy_init();
    long status = 0;
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, into_buf);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, body);
    assert_int_equal(curl_easy_perform(c), CURLE_OK);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_cleanup(c);
    return status;
}

static void test_presign(void **state)
{
    (void)state;
    struct blobs *b = blobs_fresh();
    struct buf url = BUF_INIT, body = BUF_INIT;
    put_text(b, "jobs/x/1/maps.zip", "anybody may read this");
    assert_int_equal(blob_presign(b, "jobs/x/1/maps.zip", 60, &url, &err), 1);
    assert_int_equal(fetch(url.data, &body), 200);
    assert_string_equal(body.data, "anybody may read this");
    url.data[url.len - 1] = url.data[url.len - 1] == '0' ? '1' : '0'; /* another signature */
    assert_int_equal(fetch(url.data, &body), 403);
    buf_free(&url);
    buf_free(&body);
    blobs_close(b);
}

static int count(void *arg, const char *key, const struct blob_stat *st)
{
    int *n = arg;
    char want[32];
    snprintf(want, sizeof(want), "many/%05d", *n);
    assert_string_equal(key, want);
    assert_int_equal(st->bytes, 1);
    assert_true(llabs(st->modified_ms - clock_wall_ms()) < 600000);
    ++*n;
    return 0;
}

/* A list of more than one page. */
static void test_pages(void **state)
{
    (void)state;
    struct blobs *b = blobs_fresh();
    enum { MANY = 1010 };
    for (int i = 0; i < MANY; i++) {
        char key[32];
        snprintf(key, sizeof(key), "many/%05d", i);
        put_text(b, key, "x");
    }
    int n = 0;
    OK(blob_list(b, "many/", count, &n, &err));
    assert_int_equal(n, MANY);
    blobs_close(b);
}

static void test_refusals(void **state)
{
    (void)state;
    struct blobs *b;
    setenv("AWS_SECRET_ACCESS_KEY", "wrong", 1);
    assert_int_equal(blobs_open("s3://salient-test/x", &opts, &b, &err), ERR_IO);
    assert_non_null(strstr(err.msg, "403"));
    assert_null(strstr(err.msg, "wrong"));
    setenv("AWS_SECRET_ACCESS_KEY", "testsecret", 1);
    assert_int_equal(blobs_open("s3://no-such-bucket-here/x", &opts, &b, &err), ERR_NOTFOUND);
    assert_int_equal(blobs_open("s3://UPPER/x", &opts, &b, &err), ERR_INVALID);
    assert_int_equal(blobs_open("s3://salient-test/../x", &opts, &b, &err), ERR_INVALID);
    unsetenv("AWS_ACCESS_KEY_ID");
    assert_int_equal(blobs_open("s3://salient-test/x", &opts, &b, &err), ERR_INVALID);
    assert_non_null(strstr(err.msg, "AWS_ACCESS_KEY_ID"));
    setenv("AWS_ACCESS_KEY_ID", "testkey", 1);
    setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
    assert_int_equal(blobs_open("s3://salient-test/x", &opts, &b, &err), ERR_NETWORK);
    setenv("AWS_ENDPOINT_URL", "ftp://127.0.0.1:1", 1);
    assert_int_equal(blobs_open("s3://salient-test/x", &opts, &b, &err), ERR_INVALID);
    setenv("AWS_ENDPOINT_URL", weed_endpoint, 1);
}

/* The server goes away and comes back: an error in between, nothing to do afterwards. */
static void test_outage(void **state)
{
    (void)state;
    struct blobs *b = blobs_fresh();
    put_text(b, "before", "outage");
    kill(weed_pid, SIGSTOP); /* not even a refusal: connections hang, so this one is cut short by the resume */
    pid_t waker = fork();
    if (waker == 0) {
        clock_sleep_ms(700);
        kill(weed_pid, SIGCONT);
        _exit(0);
    }
    expect_text(b, "before", "outage");
    pg_wait(waker);
    blobs_close(b);
}

static void test_abandoned_upload(void **state)
{
    (void)state;
    struct blobs *b = blobs_fresh();
    enum { PIECE = 9 * 1024 * 1024 };
    char *piece = calloc(1, PIECE);
    struct blob_writer *w;
    OK(blob_writer_open(b, "never", &w, &err));
    OK(blob_write(w, piece, PIECE, &err)); /* a first part is on the server */
    blob_writer_abort(w);
    assert_int_equal(blob_exists(b, "never", &err), 0);
    free(piece);
    blobs_close(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_presign),          cmocka_unit_test(test_pages),
        cmocka_unit_test(test_refusals),         cmocka_unit_test(test_outage),
        cmocka_unit_test(test_abandoned_upload),
    };
    blob_backend = &blob_backends[1];
    if (!blob_backend->available())
        return 0;
    temp_make();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    seaweed_stop();
    temp_remove();
    return failed;
}
