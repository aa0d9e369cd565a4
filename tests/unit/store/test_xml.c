/* The XML of S3's answers, whole, odd and broken. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/base/rng.h"
#include "core/store/s3.h"

/* The walk over a document as text: "<a" for OPEN, "a=text>" for CLOSE. */
static void expect_walk(const char *doc, const char *want)
{
    char *copy = malloc(strlen(doc) + 1); /* exactly as long, for the sanitizer's sake */
    size_t len = strlen(doc);
    memcpy(copy, doc, len);
    struct xml x = {copy, copy + len};
    char name[XML_NAME_MAX];
    struct buf text = BUF_INIT, got = BUF_INIT;
    buf_puts(&got, "");
    for (enum xml_event ev; (ev = xml_next(&x, name, &text)) != XML_END;)
        if (ev == XML_OPEN)
            buf_printf(&got, "<%s ", name);
        else
            buf_printf(&got, "%s=%s> ", name, text.data ? text.data : "");
    assert_string_equal(got.data ? got.data : "", want);
    buf_free(&text);
    buf_free(&got);
    free(copy);
}

static void test_documents(void **state)
{
    (void)state;
    expect_walk("<?xml version=\"1.0\"?><R xmlns=\"http://x/\"><Key>a&amp;b</Key>\n<E/></R>",
                "<R <Key Key=a&b> E=> R=> ");
    expect_walk("<s3:R><s3:Key a='1'> x </s3:Key></s3:R>", "<R <Key Key= x > R=> ");
    expect_walk("<a>&lt;&gt;&quot;&apos;&#65;&#x20AC;&#x1F600;</a>", "<a a=<>\"'A\xe2\x82\xac\xf0\x9f\x98\x80> ");
    expect_walk("<a>&unknown; &#; &#xD800; &#99999999999; &</a>", "<a a=&unknown; &#; \xef\xbf\xbd &#99999999999; &> ");
    expect_walk("<!-- <k>no</k> --><a><![CDATA[<k>no</k>]]>yes</a>", "<a a=yes> ");
}

static void test_broken(void **state)
{
    (void)state;
    static const char *const docs[] = {"",          "<",  "<>",  "</", "</>",    "<a", "text", "<!--",
                                       "<![CDATA[", "<?", "<a/", "&",  "<a>&#x", "<!", "<a><"};
    for (size_t i = 0; i < sizeof(docs) / sizeof(*docs); i++) {
        char *copy = malloc(strlen(docs[i]) + 1);
        memcpy(copy, docs[i], strlen(docs[i]));
        struct xml x = {copy, copy + strlen(docs[i])};
        char name[XML_NAME_MAX];
        struct buf text = BUF_INIT;
        for (int n = 0; xml_next(&x, name, &text) != XML_END; n++)
            assert_true(n < 10);
        buf_free(&text);
        free(copy);
    }
}

/* Anything ends, and no name is longer than it may be. */
static void test_noise(void **state)
{
    (void)state;
    static const char alphabet[] = "<>/!?-[]&;#x a:\"'0C";
    struct rng r;
    rng_seed(&r, 7);
    for (int round = 0; round < 20000; round++) {
        size_t len = (size_t)rng_int(&r, 120);
        char *doc = malloc(len + 1);
        for (size_t i = 0; i < len; i++)
            doc[i] = alphabet[rng_int(&r, (int)sizeof(alphabet) - 1)];
        struct xml x = {doc, doc + len};
        char name[XML_NAME_MAX];
        struct buf text = BUF_INIT;
        while (xml_next(&x, name, &text) != XML_END)
            assert_true(strlen(name) < XML_NAME_MAX);
        assert_ptr_equal(x.p, x.end);
        buf_free(&text);
        free(doc);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_broken),
        cmocka_unit_test(test_noise),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
