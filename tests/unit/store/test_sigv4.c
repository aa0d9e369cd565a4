/* The worked examples of AWS's S3 documentation for Signature Version 4, to the last digit. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/hash.h"
#include "core/store/sigv4.h"

static const struct sigv4_key key = {"AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1",
                                     "s3"};
#define DATE "20130524T000000Z"
#define HOST "examplebucket.s3.amazonaws.com"
#define PAIRS(p) p, sizeof(p) / sizeof(*(p))

static void expect(const struct sigv4_request *r, const char *names, const char *signature)
{
    char want[400];
    snprintf(want, sizeof(want),
             "AWS4-HMAC-SHA256 "
             "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,SignedHeaders=%s,Signature=%s",
             names, signature);
    struct buf b = BUF_INIT;
    sigv4_authorize(&b, &key, r);
    assert_false(b.failed);
    assert_string_equal(b.data, want);
    buf_free(&b);
}

static void test_get_object(void **state)
{
    (void)state;
    const struct sigv4_pair h[] = {
        {"range", "bytes=0-9"}, {"x-amz-date", DATE}, {"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"host", HOST}};
    struct sigv4_request r = {"GET", "/test.txt", NULL, 0, PAIRS(h), SIGV4_EMPTY_SHA256, DATE};
    expect(&r, "host;range;x-amz-content-sha256;x-amz-date",
           "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41");
}

static void test_put_object(void **state)
{
    (void)state;
    char sha[SHA256_HEX_SIZE];
    sha256_hex("Welcome to Amazon S3.", 21, sha);
    const struct sigv4_pair h[] = {{"host", HOST},
                                   {"date", "Fri, 24 May 2013 00:00:00 GMT"},
                                   {"x-amz-storage-class", "REDUCED_REDUNDANCY"},
                                   {"x-amz-date", DATE},
                                   {"x-amz-content-sha256", sha}};
    struct sigv4_request r = {"PUT", "/test$file.text", NULL, 0, PAIRS(h), sha, DATE};
    expect(&r, "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
           "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd");
}

static void test_queries(void **state)
{
    (void)state;
    const struct sigv4_pair h[] = {{"host", HOST}, {"x-amz-content-sha256", SIGV4_EMPTY_SHA256}, {"x-amz-date", DATE}};
    const struct sigv4_pair lifecycle[] = {{"lifecycle", ""}};
    struct sigv4_request r = {"GET", "/", PAIRS(lifecycle), PAIRS(h), SIGV4_EMPTY_SHA256, DATE};
    expect(&r, "host;x-amz-content-sha256;x-amz-date",
           "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
    const struct sigv4_pair list[] = {{"prefix", "J"}, {"max-keys", "2"}};
    r.query = list;
    r.nquery = 2;
    expect(&r, "host;x-amz-content-sha256;x-amz-date",
           "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

static void test_presign(void **state)
{
    (void)state;
    const struct sigv4_pair h[] = {{"host", HOST}};
    struct sigv4_request r = {"GET", "/test.txt", NULL, 0, PAIRS(h), "UNSIGNED-PAYLOAD", DATE};
    struct buf b = BUF_INIT;
    sigv4_presign(&b, &key, &r, 86400, NULL);
    assert_string_equal(
        b.data, "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2F"
                "aws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature="
                "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404");
    buf_free(&b);
}

static void test_encode_and_date(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    sigv4_encode(&b, "a/b c+d~_-.\xc3\xa9", 1);
    assert_string_equal(b.data, "a/b%20c%2Bd~_-.%C3%A9");
    buf_reset(&b);
    sigv4_encode(&b, "a/b", 0);
    assert_string_equal(b.data, "a%2Fb");
    buf_free(&b);
    char date[SIGV4_DATE_SIZE];
    sigv4_date(1369353600123, date);
    assert_string_equal(date, DATE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_get_object), cmocka_unit_test(test_put_object),      cmocka_unit_test(test_queries),
        cmocka_unit_test(test_presign),    cmocka_unit_test(test_encode_and_date),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
