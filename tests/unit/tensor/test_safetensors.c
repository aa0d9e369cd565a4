/* Named weights and the safetensors reader and writer: round trips, then damaged files. */
#include "tests/unit/tensor/tensor_check.h"

#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/fs.h"
#include "core/tensor/weights_file.h"

static char tmp[] = "/tmp/salient-weights-XXXXXX";

static int make_tmp(void **state)
{
    (void)state;
    return mkdtemp(tmp) ? 0 : -1;
}

static int remove_tmp(void **state)
{
    (void)state;
    return fs_remove_tree(tmp, NULL);
}

static const char *in_tmp(const char *name)
{
    static char path[256];
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    return path;
}

static void weights_are_a_map_in_order(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct weights *w = weights_new(s);
    assert_null(weights_get(w, "0"));
    for (int i = 0; i < 1000; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        assert_int_equal(weights_set(w, name, tensor_full(s, i, SHAPE(1)), &e), 0);
    }
    assert_int_equal(weights_set(w, "7", tensor_full(s, -7, SHAPE(1)), &e), 0);
    assert_int_equal(weights_count(w), 1000);
    assert_string_equal(weights_name(w, 999), "999");
    assert_null(weights_name(w, 1000));
    EXPECT(s, weights_get(w, "7"), -7);
    EXPECT(s, weights_at(w, 500), 500);
    assert_null(weights_get(w, "1000"));
    assert_int_equal(weights_set(w, "x", NULL, &e), ERR_INVALID);
    assert_int_equal(weights_set_meta(w, "k", "1", &e), 0);
    assert_int_equal(weights_set_meta(w, "k", "2", &e), 0);
    assert_string_equal(weights_meta(w, "k"), "2");
    assert_null(weights_meta(w, "absent"));
    weights_free(w);
    weights_free(NULL);
}

static struct weights *sample(struct scope *s)
{
    struct weights *w = weights_new(s);
    weights_set(w, "conv.weight", TENSOR(s, SHAPE(1, 2, 1, 2), 0.5f, -1, 65504, 1e-7f), NULL);
    weights_set(w, "steps \"\xc3\xa9\"", tensor_from(s, (int64_t[]){-3}, TENSOR_I64, 0, NULL), NULL);
    weights_set(w, "empty", tensor_zeros(s, TENSOR_F32, SHAPE(0, 3)), NULL);
    weights_set(w, "bytes", tensor_from(s, (uint8_t[]){1, 2, 255}, TENSOR_U8, SHAPE(3)), NULL);
    weights_set(w, "turned", tensor_transpose(s, TENSOR(s, SHAPE(2, 3), 1, 2, 3, 4, 5, 6), 0, 1), NULL);
    return w;
}

static void a_file_comes_back_as_it_was(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    static const char *const meta[] = {"arch", "rcrnet-lite", "note", "a \"quoted\"\nline", NULL};
    struct weights *w = sample(s), *r = weights_new(s);
    assert_int_equal(weights_save_safetensors(w, in_tmp("a"), TENSOR_F32, meta, &e), 0);
    assert_int_equal(weights_load(r, in_tmp("a"), &e), 0);
    assert_int_equal(weights_count(r), 5);
    for (size_t i = 0; i < 5; i++) {
        struct tensor *a = weights_at(w, i), *b = weights_get(r, weights_name(w, i));
        assert_string_equal(weights_name(r, i), weights_name(w, i));
        assert_int_equal(tensor_dtype_of(a), tensor_dtype_of(b));
        assert_int_equal(tensor_ndim(a), tensor_ndim(b));
        assert_true(max_difference(s, a, b) == 0);
    }
    EXPECT(s, weights_get(r, "turned"), 1, 4, 2, 5, 3, 6);
    assert_string_equal(weights_meta(r, "arch"), "rcrnet-lite");
    assert_string_equal(weights_meta(r, "note"), "a \"quoted\"\nline");
    weights_free(w);
    weights_free(r);
}

static void float16_is_storage_only(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct weights *w = sample(s), *r = weights_new(s), *k = weights_new(s);
    assert_int_equal(weights_save_safetensors(w, in_tmp("h"), TENSOR_F16, NULL, &e), 0);
    assert_int_equal(weights_load_safetensors(r, in_tmp("h"), false, &e), 0);
    EXPECT(s, weights_get(r, "conv.weight"), 0.5f, -1, 65504, 1.1920929e-07f);
    assert_int_equal(tensor_dtype_of(weights_get(r, "conv.weight")), TENSOR_F32);
    assert_int_equal(weights_load_safetensors(k, in_tmp("h"), true, &e), 0);
    assert_int_equal(tensor_dtype_of(weights_get(k, "conv.weight")), TENSOR_F16);
    assert_int_equal(tensor_dtype_of(weights_get(k, "bytes")), TENSOR_U8);
    weights_set(w, "large", VECTOR(s, 1e5f), NULL);
    assert_int_equal(weights_save_safetensors(w, in_tmp("h"), TENSOR_F16, NULL, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "large"));
    weights_free(w);
    weights_free(r);
    weights_free(k);
}

static void odd_files_are_refused(void **state)
{
    struct err e = {0};
    struct weights *w = weights_new(*state);
    assert_int_equal(weights_load(w, in_tmp("absent"), &e), ERR_NOTFOUND);
    assert_int_equal(weights_load(w, tmp, &e), ERR_CORRUPT);
    assert_int_equal(weights_load(w, "/dev/zero", &e), ERR_CORRUPT);
    assert_int_equal(fs_write_atomic(in_tmp("none"), "", 0, &e), 0);
    assert_int_equal(weights_load(w, in_tmp("none"), &e), ERR_CORRUPT);
    assert_int_equal(fs_write_atomic(in_tmp("text"), "hello, world: no weights", 24, &e), 0);
    assert_int_equal(weights_load(w, in_tmp("text"), &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "/text: neither"));
    assert_int_equal(weights_save_safetensors(w, in_tmp("no/such/dir"), TENSOR_F32, NULL, &e), ERR_NOTFOUND);
    weights_set(w, "not utf-8 \xff", tensor_full(*state, 1, SHAPE(1)), NULL);
    assert_int_equal(weights_save_safetensors(w, in_tmp("a"), TENSOR_F32, NULL, &e), ERR_INVALID);
    weights_free(w);
}

/* ---- damage -------------------------------------------------------------------------------------------------------- */

#define T(offsets) "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":" offsets "}}"
#define S(dtype, shape) "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":[0,8]}}"
#define TWO(a, b)                                                                                           \
    "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":" a "},\"b\":{\"dtype\":\"U8\",\"shape\":[4]," \
    "\"data_offsets\":" b "}}"

/* A header before eight bytes of data. */
static const struct {
    const char *header;
    int code;
} headers[] = {
    {T("[0,8]"), 0},
    {TWO("[4,8]", "[0,4]"), 0}, /* the order of names and data may differ */
    {"{\"__metadata__\":{\"a\":\"b\"},\"x\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}   ", 0},
    {"", ERR_CORRUPT},
    {"{", ERR_CORRUPT},
    {"{}", ERR_CORRUPT}, /* eight bytes belong to nobody */
    {"[]", ERR_CORRUPT},
    {"null", ERR_CORRUPT},
    {"{} {}", ERR_CORRUPT},
    {"{\"a\":1}", ERR_CORRUPT},
    {"{\"a\":[]}", ERR_CORRUPT},
    {"{\"a\":null}", ERR_CORRUPT},
    {"{\"a\":{}}", ERR_CORRUPT},
    {T("[0,8]") "x", ERR_CORRUPT},
    {T("[0,4]"), ERR_CORRUPT},
    {T("[0,12]"), ERR_CORRUPT},
    {T("[8,16]"), ERR_CORRUPT},
    {T("[8,0]"), ERR_CORRUPT},
    {T("[-8,0]"), ERR_CORRUPT},
    {T("[0]"), ERR_CORRUPT},
    {T("[0,8,16]"), ERR_CORRUPT},
    {T("[0.0,8.0]"), ERR_CORRUPT},
    {T("[0,\"8\"]"), ERR_CORRUPT},
    {T("8"), ERR_CORRUPT},
    {T("[0,18446744073709551616]"), ERR_CORRUPT},
    {T("[0,9223372036854775807]"), ERR_CORRUPT},
    {T("[1e400,8]"), ERR_CORRUPT},
    {S("\"F32\"", "[3]"), ERR_CORRUPT},
    {S("\"F32\"", "[-2]"), ERR_CORRUPT},
    {S("\"F32\"", "[-1,-2]"), ERR_CORRUPT},
    {S("\"F32\"", "[2.0]"), ERR_CORRUPT},
    {S("\"F32\"", "2"), ERR_CORRUPT},
    {S("\"F32\"", "[\"2\"]"), ERR_CORRUPT},
    {S("\"F32\"", "null"), ERR_CORRUPT},
    {S("\"F32\"", "[4611686018427387904,2]"), ERR_CORRUPT}, /* 2^63 elements */
    {S("\"F32\"", "[4294967296,4294967296,2]"), ERR_CORRUPT},
    {S("\"F32\"", "[9223372036854775807]"), ERR_CORRUPT},
    {S("\"F32\"", "[1,1,1,1,1,1,2]"), ERR_UNSUPPORTED},
    {S("\"F64\"", "[2]"), ERR_CORRUPT},
    {S("\"F8_E4M3\"", "[8]"), ERR_UNSUPPORTED},
    {S("\"f32\"", "[2]"), ERR_UNSUPPORTED},
    {S("32", "[2]"), ERR_CORRUPT},
    {S("null", "[2]"), ERR_CORRUPT},
    {TWO("[0,4]", "[0,4]"), ERR_CORRUPT},
    {TWO("[0,4]", "[2,6]"), ERR_CORRUPT},
    {TWO("[4,8]", "[4,8]"), ERR_CORRUPT},
    {"{\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]},\"a\":{\"dtype\":\"U8\",\"shape\":[8],"
     "\"data_offsets\":[0,8]}}",
     ERR_CORRUPT},
    {"{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", ERR_CORRUPT},
    {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", ERR_CORRUPT},
    {"{\"__metadata__\":[],\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", ERR_CORRUPT},
    {"{\"__metadata__\":{\"k\":1},\"a\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", ERR_CORRUPT},
};

static void put_length(struct buf *b, uint64_t n)
{
    for (int i = 0; i < 8; i++)
        buf_putc(b, (char)(n >> (8 * i)));
}

/* Reads from a heap copy of exactly that size, so that the address sanitizer sees one byte too many. */
static int read_exactly(struct scope *parent, const char *data, size_t len, struct err *e)
{
    struct scope *s = scope_new(parent, cpu);
    struct weights *w = weights_new(s);
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    *e = (struct err){0};
    int rc = safetensors_read(w, copy, len, false, e);
    assert_int_equal(rc, e->code);
    if (rc) {
        assert_int_equal(weights_count(w), 0); /* nothing of a damaged file gets in */
        assert_true(e->msg[0] != 0);
    }
    free(copy);
    weights_free(w);
    scope_free(s);
    return rc;
}

static void damaged_headers_are_refused(void **state)
{
    struct err e;
    for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
        struct buf b = BUF_INIT;
        put_length(&b, strlen(headers[i].header));
        buf_puts(&b, headers[i].header);
        buf_append(&b, "12345678", 8);
        int rc = read_exactly(*state, b.data, b.len, &e);
        if (rc != headers[i].code)
            fail_msg("%s: %d %s", headers[i].header, rc, e.msg);
        buf_free(&b);
    }
}

static void wrong_lengths_are_refused(void **state)
{
    static const uint64_t lengths[] = {0,    1,          53,         55,         62,         63,
                                       1000, 1ull << 31, 1ull << 32, 1ull << 63, UINT64_MAX, UINT64_MAX - 7};
    struct err e;
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct buf b = BUF_INIT;
        put_length(&b, lengths[i]);
        buf_puts(&b, T("[0,8]")); /* 54 bytes */
        buf_append(&b, "12345678", 8);
        assert_int_equal(b.len, 8 + 54 + 8);
        assert_int_equal(read_exactly(*state, b.data, b.len, &e), ERR_CORRUPT);
        buf_free(&b);
    }
}

static void every_cut_is_noticed(void **state)
{
    struct scope *s = *state;
    struct err e;
    struct buf file = BUF_INIT;
    struct weights *w = sample(s);
    assert_int_equal(weights_save_safetensors(w, in_tmp("cut"), TENSOR_F32, NULL, &e), 0);
    assert_int_equal(fs_read(in_tmp("cut"), 1 << 20, &file, &e), 0);
    assert_int_equal(read_exactly(s, file.data, file.len, &e), 0);
    for (size_t n = 0; n < file.len; n++)
        assert_int_not_equal(read_exactly(s, file.data, n, &e), 0);
    buf_putc(&file, 'x');
    assert_int_equal(read_exactly(s, file.data, file.len, &e), ERR_CORRUPT);
    buf_free(&file);
    weights_free(w);
}

static void a_huge_header_is_over_the_limit(void **state)
{
    struct err e;
    struct buf b = BUF_INIT;
    const size_t n = 9 << 20;
    put_length(&b, n);
    char *p = buf_reserve(&b, n);
    memset(p, ' ', n);
    p[0] = '{';
    b.len += n;
    assert_int_equal(read_exactly(*state, b.data, b.len, &e), ERR_LIMIT);
    buf_free(&b);
}

static void deep_nesting_does_not_overflow(void **state)
{
    struct err e;
    struct buf b = BUF_INIT;
    const int depth = 1 << 20;
    put_length(&b, (uint64_t)depth + 5);
    buf_puts(&b, "{\"a\":");
    for (int i = 0; i < depth; i++)
        buf_putc(&b, '[');
    assert_int_equal(read_exactly(*state, b.data, b.len, &e), ERR_CORRUPT);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(weights_are_a_map_in_order),     SCOPE_TEST(a_file_comes_back_as_it_was),
        SCOPE_TEST(float16_is_storage_only),        SCOPE_TEST(odd_files_are_refused),
        SCOPE_TEST(damaged_headers_are_refused),    SCOPE_TEST(wrong_lengths_are_refused),
        SCOPE_TEST(every_cut_is_noticed),           SCOPE_TEST(a_huge_header_is_over_the_limit),
        SCOPE_TEST(deep_nesting_does_not_overflow),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
