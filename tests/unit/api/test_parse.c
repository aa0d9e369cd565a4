/* api: what is parsed from requests, without a server: multipart bodies, targets, Accept, Prefer, entity tags, trace context. */
#include "tests/unit/check.h"

#include "api/multipart.h"
#include "api/negotiate.h"
#include "api/route.h"
#include "api/trace.h"
#include "api/uri.h"
#include "core/base/buf.h"
#include "core/base/rng.h"

/* ---- multipart: everything that comes out is written down as "name|filename|type{data}" */

static int note_begin(void *arg, const struct multipart_part *part, struct err *e)
{
    (void)e;
    buf_printf(arg, "%s|%s|%s{", part->name, part->filename ? part->filename : "-",
               part->content_type ? part->content_type : "-");
    return 0;
}

static int note_data(void *arg, const char *data, size_t len, struct err *e)
{
    (void)e;
    buf_append(arg, data, len);
    return 0;
}

static int note_end(void *arg, struct err *e)
{
    (void)e;
    buf_puts(arg, "}");
    return 0;
}

/* Feeds body in pieces of `step` bytes (0: random ones); returns the result of the parse. */
static int parse(const char *type, const char *body, size_t len, size_t step, struct buf *out)
{
    const struct multipart_handler h = {out, note_begin, note_data, note_end};
    struct multipart *m = NULL;
    struct rng r;
    int rc = multipart_new(type, &h, &m, NULL);
    rng_seed(&r, len);
    for (size_t i = 0; rc == 0 && i < len;) {
        size_t n = step ? step : (size_t)rng_int(&r, 9) + 1;
        n = n < len - i ? n : len - i;
        rc = multipart_feed(m, body + i, n, NULL);
        i += n;
    }
    if (rc == 0)
        rc = multipart_finish(m, NULL);
    multipart_free(m);
    return rc;
}

static void expect(const char *type, const char *body, const char *want)
{
    for (size_t step = 0; step <= strlen(body); step++) {
        struct buf out = BUF_INIT;
        buf_puts(&out, "");
        assert_int_equal(parse(type, body, strlen(body), step, &out), 0);
        assert_string_equal(out.data, want);
        buf_free(&out);
    }
}

static void multipart_parts_in_every_split(void **state)
{
    (void)state;
    expect("multipart/form-data; boundary=B",
           "--B\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--B\r\nContent-Type: x/y\r\n"
           "content-disposition: form-data; filename=\"f \\\"g\\\".mp4\"; name=b\r\n\r\n\r\n--\r\r\n--\r\n--A\r\n--B--",
           "a|-|-{1}b|f \"g\".mp4|x/y{\r\n--\r\r\n--\r\n--A}");
    expect("multipart/form-data; charset=x; boundary=\"a b\"",
           "before\r\n--a b \t\r\nContent-Disposition: form-data; name=e\r\n\r\n\r\n--a b--\r\nafter --a b\r\n",
           "e|-|-{}");
    expect("multipart/form-data; boundary=B", "--B--\r\n", "");
}

static void multipart_refuses(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "",
        "--B",
        "--B\r\n",
        "--B-",
        "--Bx\r\n",
        "--B\r\n\r\n--B--",
        "--B\r\nContent-Disposition: attachment; name=a\r\n\r\n",
        "--B\r\nContent-Disposition: form-data; filename=a\r\n\r\nx\r\n--B--",
        "--B\r\nContent-Disposition: form-data; name=a\r\n\r\nx\r\n--B\r\n",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct buf out = BUF_INIT;
        assert_int_equal(parse("multipart/form-data; boundary=B", bodies[i], strlen(bodies[i]), 1, &out), ERR_INVALID);
        buf_free(&out);
    }
    static const char *const types[] = {"multipart/form-data",
                                        "multipart/form-data; boundary=", "multipart/form-data; xboundary=B",
                                        "multipart/form-data; boundary"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
        assert_int_equal(parse(types[i], "--B--", 5, 1, NULL), ERR_INVALID);
}

/* Damaged bodies end in an answer, never in a crash; the sanitizer build looks. */
static void multipart_survives_noise(void **state)
{
    (void)state;
    static const char good[] =
        "--B\r\nContent-Disposition: form-data; name=\"a\"; filename=\"b\"\r\n\r\n1\r\n--B--\r\n";
    struct rng r;
    rng_seed(&r, 1);
    for (int k = 0; k < 20000; k++) {
        char body[sizeof(good)];
        struct buf out = BUF_INIT;
        memcpy(body, good, sizeof(good));
        for (int n = rng_int(&r, 6); n >= 0; n--)
            body[rng_int(&r, sizeof(good) - 1)] = "\r\n-B\";= \0x"[rng_int(&r, 10)];
        (void)parse("multipart/form-data; boundary=B", body, sizeof(good) - 1, 0, &out);
        buf_free(&out);
    }
}

/* ---- targets ------------------------------------------------------------------------------------------------------- */

static int match(const char *method, const char *uri, struct http_request *req, struct buf *allow)
{
    struct uri_path path;
    *req = (struct http_request){.method = http_method_parse(method), .uri = uri};
    int rc = uri_parse(req, &path, NULL);
    return rc == 0 ? route_match(req, &path, allow) : rc;
}

static void routes_match_and_bind(void **state)
{
    (void)state;
    struct http_request req;
    struct buf allow = BUF_INIT;
    assert_int_equal(match("GET", "/v1/jobs/a%2Fb/maps/7.png?x=a+b%20c&y&z=1=2", &req, &allow), 0);
    assert_string_equal(req.route->operation, "get_map_png");
    assert_string_equal(http_path_param(&req, "id"), "a/b");
    assert_string_equal(http_path_param(&req, "n"), "7");
    assert_null(http_path_param(&req, "i"));
    assert_string_equal(http_query(&req, "x"), "a b c");
    assert_string_equal(http_query(&req, "y"), "");
    assert_string_equal(http_query(&req, "z"), "1=2");
    free(req.mem);
    assert_int_equal(match("HEAD", "/v1/jobs/a/maps/7.jpg", &req, &allow), 0);
    assert_string_equal(req.route->operation, "get_map_jpg");
    free(req.mem);
    assert_int_equal(match("PUT", "/v1/jobs/a", &req, &allow), ERR_UNSUPPORTED);
    assert_string_equal(allow.data, "GET, HEAD, DELETE, OPTIONS");
    free(req.mem);
    buf_reset(&allow);
    static const char *const nowhere[] = {"/v1/jobs/a/maps/png", "/v1", "/v1/jobs/a/b", "/v1/jobs/",
                                          "/v1/jobs/a/maps/7.gif"};
    for (size_t i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
        int rc = match("GET", nowhere[i], &req, &allow);
        assert_true(rc == ERR_NOTFOUND || (rc == 0 && http_path_param(&req, "id")[0] == '\0'));
        free(req.mem);
    }
    static const char *const bad[] = {"x", "/%", "/%4", "/%g0", "/%00", "/?a=%", "/?a=1&a=2"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(match("GET", bad[i], &req, &allow), ERR_INVALID);
        free(req.mem);
    }
    buf_free(&allow);
}

/* ---- negotiation --------------------------------------------------------------------------------------------------- */

static void accept_picks_the_best(void **state)
{
    (void)state;
    static const char *const offers[] = {"application/json", "image/png", "application/zip"};
    static const struct {
        const char *accept;
        int want;
    } rows[] = {
        {NULL, 0},
        {"", 0},
        {"*/*", 0},
        {"image/png", 1},
        {"IMAGE/PNG ; q=0.5", 1},
        {"image/*", 1},
        {"text/html", -1},
        {"application/json;q=0.1, application/zip", 2},
        {"application/*, image/png;q=0.9", 0},
        {"image/png;q=0", -1},
        {"*/*;q=0.1, image/png;q=0.2", 1},
        {"*/*, application/json;q=0", 1},
        {",,;q=1", -1},
        {"image/pngx", -1},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(negotiate_accept(rows[i].accept, offers, 3), rows[i].want);
}

static void prefer_and_tags(void **state)
{
    (void)state;
    assert_int_equal(negotiate_wait("wait=5"), 5);
    assert_int_equal(negotiate_wait("respond-async, Wait = 7; x=y"), 7);
    assert_int_equal(negotiate_wait("wait=99999"), 60);
    assert_int_equal(negotiate_wait("wait"), 0);
    assert_int_equal(negotiate_wait("wait=-4"), 0);
    assert_int_equal(negotiate_wait("waiting=4"), 0);
    assert_int_equal(negotiate_wait(NULL), 0);
    assert_true(negotiate_async("wait=3, respond-async"));
    assert_false(negotiate_async("respond-asynchronously"));
    assert_true(negotiate_etag_in("\"a\", \"b\"", "b", false));
    assert_true(negotiate_etag_in("W/\"b\"", "b", true));
    assert_false(negotiate_etag_in("W/\"b\"", "b", false));
    assert_false(negotiate_etag_in("b", "b", true));
    assert_false(negotiate_etag_in("\"b", "b", true));
    assert_true(negotiate_etag_in("*", "b", false));
}

static void trace_context_form(void **state)
{
    (void)state;
    assert_true(traceparent_valid("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_false(traceparent_valid("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
    assert_false(traceparent_valid("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01"));
    assert_false(traceparent_valid("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
    assert_false(traceparent_valid("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    assert_false(traceparent_valid("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(multipart_parts_in_every_split),
        cmocka_unit_test(multipart_refuses),
        cmocka_unit_test(multipart_survives_noise),
        cmocka_unit_test(routes_match_and_bind),
        cmocka_unit_test(accept_picks_the_best),
        cmocka_unit_test(prefer_and_tags),
        cmocka_unit_test(trace_context_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
