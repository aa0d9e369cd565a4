/*
 * PyTorch checkpoints: files that PyTorch wrote (data/make.py), then hostile pickles and archives, built here opcode by opcode.
 */
#include "tests/unit/tensor/tensor_check.h"

#include <zlib.h>

#include "core/base/buf.h"
#include "core/base/fs.h"
#include "core/tensor/pickle.h"

#define DATA "tests/unit/tensor/data/"

/* Reads a heap copy of exactly that size, so that the address sanitizer sees one byte too many. */
static int read_into(struct weights *w, const void *data, size_t len, struct err *e)
{
    uint8_t *copy = malloc(len ? len : 1);
    memcpy(copy, data, len);
    *e = (struct err){0};
    int rc = pth_read(w, copy, len, e);
    free(copy);
    assert_int_equal(rc, e->code);
    assert_true(rc == 0 || e->msg[0]);
    return rc;
}

static int read_only(struct scope *parent, const void *data, size_t len, struct err *e)
{
    struct scope *s = scope_new(parent, cpu);
    struct weights *w = weights_new(s);
    int rc = read_into(w, data, len, e);
    weights_free(w);
    scope_free(s);
    return rc;
}

/* ---- what PyTorch writes ---------------------------------------------------------------------------------------------- */

static void expect_tiny(struct scope *s, const char *path)
{
    struct err e = {0};
    struct weights *w = weights_new(s);
    if (weights_load(w, path, &e))
        fail_msg("%s", e.msg);
    assert_int_equal(weights_count(w), 14);
    assert_string_equal(weights_name(w, 0), "float");
    EXPECT_SHAPE(weights_get(w, "float"), 2, 3);
    static const char *const quarters[] = {"float", "half", "bfloat", "double"};
    for (int i = 0; i < 4; i++) {
        EXPECT(s, weights_get(w, quarters[i]), 0, 0.25f, 0.5f, 0.75f, 1, 1.25f);
        assert_int_equal(tensor_dtype_of(weights_get(w, quarters[i])), TENSOR_F32);
    }
    static const char *const integers[] = {"int", "short", "char"};
    for (int i = 0; i < 3; i++) {
        EXPECT(s, weights_get(w, integers[i]), 0, -1, -2, -3, -4, -5);
        assert_int_equal(tensor_dtype_of(weights_get(w, integers[i])), TENSOR_I64);
    }
    int64_t steps;
    assert_int_equal(tensor_read_raw(s, weights_get(w, "steps"), &steps, sizeof steps), 0);
    assert_true(steps == 12345678901);
    assert_int_equal(tensor_ndim(weights_get(w, "steps")), 0);
    EXPECT(s, weights_get(w, "byte"), 0, 1, 2, 3, 4, 5);
    EXPECT(s, weights_get(w, "bool"), 0, 0, 0, 1, 1, 1);
    EXPECT_SHAPE(weights_get(w, "turned"), 3, 2);
    EXPECT(s, weights_get(w, "turned"), 0, 3, 1, 4, 2, 5);
    EXPECT(s, weights_get(w, "middle"), 2, 3);
    EXPECT_SHAPE(weights_get(w, "empty"), 0, 4);
    EXPECT_SHAPE(weights_get(w, "parameter"), 1, 1, 2, 3);
    EXPECT(s, weights_get(w, "parameter"), 0, 1, 2, 3, 4, 5);
    weights_free(w);
}

static void both_formats_are_read(void **state)
{
    expect_tiny(*state, DATA "tiny.pth");
    expect_tiny(*state, DATA "tiny-legacy.pth");
}

static void load_file(const char *path, struct buf *out)
{
    struct err e = {0};
    if (fs_read(path, 1 << 20, out, &e))
        fail_msg("%s", e.msg);
}

static void every_cut_is_noticed(void **state)
{
    static const char *const paths[] = {DATA "tiny.pth", DATA "tiny-legacy.pth"};
    for (int i = 0; i < 2; i++) {
        struct buf file = BUF_INIT;
        struct err e;
        load_file(paths[i], &file);
        assert_int_equal(read_only(*state, file.data, file.len, &e), 0);
        for (size_t n = 0; n < file.len; n += 3)
            assert_int_not_equal(read_only(*state, file.data, n, &e), 0);
        buf_free(&file);
    }
}

/* Whatever a flipped bit does, it does no harm; in the zip format the checksums notice it wherever it matters. */
static void flipped_bits_do_no_harm(void **state)
{
    static const char *const paths[] = {DATA "tiny.pth", DATA "tiny-legacy.pth"};
    for (int i = 0; i < 2; i++) {
        struct buf file = BUF_INIT;
        struct err e;
        load_file(paths[i], &file);
        for (size_t at = 0; at < file.len; at++) {
            char keep = file.data[at];
            file.data[at] = (char)(keep ^ 1 << at % 8);
            read_only(*state, file.data, file.len, &e);
            file.data[at] = keep;
        }
        buf_free(&file);
    }
}

/* ---- a writer of pickles ---------------------------------------------------------------------------------------------- */

#define MAGIC "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
#define PROTOCOL "\x80\x02M\xe9\x03."
#define SYS_INFO "\x80\x02}."
#define PRELUDE MAGIC PROTOCOL SYS_INFO
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define STORAGE(type, numel)               \
    "(U\x07storagectorch\n" type "\nU\x01" \
    "0U\x03"                               \
    "cpu" numel "tQ"
#define FLOATS(numel) STORAGE("FloatStorage", numel)
/* a dictionary of one tensor "w" from what REDUCE gets */
#define ONE(args) "\x80\x02}U\x01w" REBUILD "(" args "tRs."
#define KEYS         \
    "\x80\x02]U\x01" \
    "0a."
#define NO_KEYS "\x80\x02]."
#define FOUR_FLOATS    \
    "\4\0\0\0\0\0\0\0" \
    "\0\0\x80?\0\0\0@\0\0@@\0\0\x80@"
#define BYTES(s) s, sizeof(s) - 1

struct file_case {
    const char *what;
    const char *data;
    size_t len;
    int code;
};

#define LEGACY(what, object, rest, code)       \
    {                                          \
        what, BYTES(PRELUDE object rest), code \
    }

static const struct file_case legacy_cases[] = {
    LEGACY("a vector", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS, 0),
    LEGACY("a turned matrix", ONE(FLOATS("K\x04") "K\0K\x02K\x02\x86K\x01K\x02\x86\x89N"), KEYS FOUR_FLOATS, 0),
    LEGACY("the old rebuild function",
           "\x80\x02}U\x01wctorch._utils\n_rebuild_tensor\n(" FLOATS("K\x04") "K\0K\x04\x85K\x01\x85tRs.",
           KEYS FOUR_FLOATS, 0),
    LEGACY("a Python 2 OrderedDict of pairs",
           "\x80\x02"
           "ccollections\nOrderedDict\n(](U\x01w" REBUILD "(" FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89NtRlatR.",
           KEYS FOUR_FLOATS, 0),
    LEGACY("a view into its storage",
           ONE("(U\x07storagectorch\nFloatStorage\nU\x01"
               "0U\x03"
               "cpuK\x04(U\x01vK\x01K\x02ttQK\0K\x02\x85K\x01\x85\x89N"),
           KEYS FOUR_FLOATS, 0),
    LEGACY("a view outside its storage",
           ONE("(U\x07storagectorch\nFloatStorage\nU\x01"
               "0U\x03"
               "cpuK\x04(U\x01vK\x03K\x02ttQK\0K\x02\x85K\x01\x85\x89N"),
           KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a tensor larger than its view",
           ONE("(U\x07storagectorch\nFloatStorage\nU\x01"
               "0U\x03"
               "cpuK\x04(U\x01vK\x01K\x02ttQK\0K\x03\x85K\x01\x85\x89N"),
           KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("an offset outside", ONE(FLOATS("K\x04") "K\x01K\x04\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a negative offset", ONE(FLOATS("K\x04") "J\xff\xff\xff\xffK\x04\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("a stride outside", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x02\x85\x89N"), KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a negative stride", ONE(FLOATS("K\x04") "K\x03K\x04\x85J\xff\xff\xff\xff\x85\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("a negative size", ONE(FLOATS("K\x04") "K\0J\xff\xff\xff\xff\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("an expanded scalar of a terabyte", ONE(FLOATS("K\x04") "K\0\x8a\x05\0\0\0\0\x40\x85K\0\x85\x89N"),
           KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a size that overflows",
           ONE(FLOATS("K\x04") "K\0\x8a\x08\0\0\0\0\0\0\0\x40\x8a\x08\0\0\0\0\0\0\0\x40\x86K\0K\0\x86\x89N"),
           KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a stride that overflows",
           ONE(FLOATS("K\x04") "K\0K\x02K\x02\x86\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x8a\x08\xff\xff\xff\xff\xff"
                               "\xff\xff\x7f\x86\x89N"),
           KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("sizes and strides that do not match", ONE(FLOATS("K\x04") "K\0K\x04\x85)\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("seven dimensions", ONE(FLOATS("K\x04") "K\0(K\1K\1K\1K\1K\1K\1K\1t(K\1K\1K\1K\1K\1K\1K\1t\x89N"),
           KEYS FOUR_FLOATS, ERR_UNSUPPORTED),
    LEGACY("a storage that is not there", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"), NO_KEYS, ERR_CORRUPT),
    LEGACY("a storage cut short", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"), KEYS "\4\0\0\0\0\0\0\0abc",
           ERR_CORRUPT),
    LEGACY("a storage of another size", ONE(FLOATS("K\x03") "K\0K\x03\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("a storage of 2^62 elements", ONE(FLOATS("\x8a\x08\0\0\0\0\0\0\0\x40") "K\0K\x04\x85K\x01\x85\x89N"),
           KEYS "\0\0\0\0\0\0\0\x40"
                "abcd",
           ERR_CORRUPT),
    LEGACY("a negative storage", ONE(FLOATS("J\xff\xff\xff\xff") "K\0K\x04\x85K\x01\x85\x89N"), KEYS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("a storage that nobody names", "\x80\x02}.", KEYS FOUR_FLOATS, ERR_CORRUPT),
    LEGACY("a storage named twice", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"),
           "\x80\x02]U\x01"
           "0aU\x01"
           "0a." FOUR_FLOATS FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("keys that are not a list", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"), "\x80\x02}." FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("keys that are not text", ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N"), "\x80\x02]K\0a." FOUR_FLOATS,
           ERR_CORRUPT),
    LEGACY("an empty dictionary", "\x80\x02}.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("no dictionary", "\x80\x02K\x01.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a state_dict that is not a dictionary", "\x80\x02}U\x0astate_dictK\x01s.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a weight that is a number", "\x80\x02}U\x01wK\x01s.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a weight without a name", "\x80\x02}K\x01K\x01s.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a name with a zero byte",
           "\x80\x02}U\x02"
           "a\0K\x01s.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("os.system",
           "\x80\x02"
           "cos\nsystem\nU\x02ls\x85R.",
           NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("builtins.eval by text",
           "\x80\x04\x8c\x08"
           "builtins\x8c\x04"
           "eval\x93\x8c\x01"
           "1\x85R.",
           NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("an unknown function of torch",
           "\x80\x02"
           "ctorch\nload\nU\x01x\x85R.",
           NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("an object of a class",
           "\x80\x02"
           "ccollections\nOrderedDict\n)\x81.",
           NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("an instance opcode", "\x80\x02(ios\nsystem\n.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("an extension code", "\x80\x02\x82\x01.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a call of a number", "\x80\x02K\x01)R.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a call of a storage type",
           "\x80\x02"
           "ctorch\nFloatStorage\n)R.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("arguments that are no tuple",
           "\x80\x02"
           "ccollections\nOrderedDict\n]R.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("a tensor of nothing", "\x80\x02" REBUILD ")R.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a tensor of numbers", "\x80\x02" REBUILD "(K\1K\1K\1K\1tR.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a parameter of nothing",
           "\x80\x02"
           "ctorch._utils\n_rebuild_parameter\n)R.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("a size of text",
           "\x80\x02"
           "ctorch\nSize\nU\x01x\x85R.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("a persistent id that is a number", "\x80\x02K\x01Q.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a persistent id of a module", "\x80\x02(U\x06moduleK\1K\1K\1K\1tQ.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a storage of a function's type",
           "\x80\x02(U\x07storageccollections\nOrderedDict\nU\x01"
           "0U\x03"
           "cpuK\x04tQ.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("attributes of a list", "\x80\x02]}b.", NO_KEYS, ERR_CORRUPT),
    LEGACY("an append to a number",
           "\x80\x02K\x01K\x02"
           "a.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("items for a list", "\x80\x02]K\x01K\x02s.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a key without a value", "\x80\x02}(K\x01u.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a tuple without a mark", "\x80\x02t.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a pair of one", "\x80\x02K\x01\x86.", NO_KEYS, ERR_CORRUPT),
    LEGACY("values taken from below a mark", "\x80\x02]K\x01(a.", NO_KEYS, ERR_CORRUPT),
    LEGACY("an empty stack at the end", "\x80\x02.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a pop too many",
           "\x80\x02K\x01"
           "00.",
           NO_KEYS, ERR_CORRUPT),
    LEGACY("a memo that was never set", "\x80\x02h\x05.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a memo number of 4 billion", "\x80\x02K\x01r\xff\xff\xff\xff.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a text longer than the file", "\x80\x02X\xff\xff\xff\xffxx.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a text of 2^64 bytes", "\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xffxx.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a frame of 2^63 bytes", "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.", NO_KEYS, ERR_CORRUPT),
    LEGACY("a global without an end",
           "\x80\x02"
           "cos",
           "", ERR_CORRUPT),
    LEGACY("protocol 9", "\x80\x09.", NO_KEYS, ERR_UNSUPPORTED),
    LEGACY("a dictionary in itself", "\x80\x02}q\0U\x0astate_dicth\0s.", NO_KEYS, ERR_UNSUPPORTED),
    {"a pickle of something else", BYTES("\x80\x02K\x01."), ERR_UNSUPPORTED},
    {"another magic number", BYTES("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x18." PROTOCOL SYS_INFO),
     ERR_UNSUPPORTED},
    {"another protocol", BYTES(MAGIC "\x80\x02M\xea\x03." SYS_INFO), ERR_UNSUPPORTED},
    {"a big-endian machine", BYTES(MAGIC PROTOCOL "\x80\x02}U\x0dlittle_endian\x89s."), ERR_UNSUPPORTED},
    {"nothing", BYTES(""), ERR_CORRUPT},
    {"three bytes", BYTES("\x80\x02\x8a"), ERR_CORRUPT},
};

static void hostile_pickles_get_an_error(void **state)
{
    for (size_t i = 0; i < sizeof legacy_cases / sizeof *legacy_cases; i++) {
        const struct file_case *c = &legacy_cases[i];
        struct err e;
        int rc = read_only(*state, c->data, c->len, &e);
        if (rc != c->code)
            fail_msg("%s: %d %s", c->what, rc, e.msg);
    }
}

static void an_unknown_global_is_named(void **state)
{
    struct err e;
    const char evil[] = PRELUDE "\x80\x02"
                                "cposix\nsys\x1b[2Jtem\nU\x02ls\x85R.";
    assert_int_equal(read_only(*state, evil, sizeof evil - 1, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "posix.sys?[2Jtem")); /* without its control characters */
}

/* ---- pickles whose size is the attack ----------------------------------------------------------------------------------- */

static int read_repeated(struct scope *s, const char *head, size_t head_len, const char *unit, size_t n,
                         const char *tail, struct err *e)
{
    struct buf b = BUF_INIT;
    buf_append(&b, BYTES(PRELUDE));
    buf_append(&b, head, head_len);
    for (size_t i = 0; i < n; i++)
        buf_puts(&b, unit);
    buf_puts(&b, tail);
    int rc = read_only(s, b.data, b.len, e);
    buf_free(&b);
    return rc;
}

static void size_and_depth_are_bounded(void **state)
{
    struct err e;
    const char head[] = "\x80\x02";
    /* a million nested lists: nothing recurses */
    assert_int_equal(read_repeated(*state, BYTES(head), "]", 1000000, ".\x80\x02].", &e), ERR_UNSUPPORTED);
    assert_int_equal(read_repeated(*state, BYTES(head), "(", 1000000, ".", &e), ERR_CORRUPT);
    assert_int_equal(read_repeated(*state, BYTES(head), "K\x01\x85", 500000, ".\x80\x02].", &e), ERR_UNSUPPORTED);
    assert_int_equal(read_repeated(*state, BYTES(head), "]", 5000000, ".", &e), ERR_LIMIT);
    /* a list of 100 000 pairs, copied by each of 1000 calls */
    struct buf b = BUF_INIT;
    buf_append(&b, BYTES("\x80\x02]q\x01("));
    for (int i = 0; i < 100000; i++)
        buf_append(&b, BYTES("K\x01K\x02\x86"));
    buf_puts(&b, "e");
    assert_int_equal(read_repeated(*state, b.data, b.len, "ccollections\nOrderedDict\nh\x01\x85R", 1000, ".", &e),
                     ERR_LIMIT);
    buf_free(&b);
}

static void shared_storage_is_bounded(void **state)
{
    struct err e;
    struct buf b = BUF_INIT, file = BUF_INIT;
    buf_append(&b, BYTES("\x80\x02}q\x01" REBUILD "(" FLOATS("M\0\x40") "K\0M\0\x40\x85K\x01\x85\x89NtRq\x02"
                                                                        "0"));
    for (int i = 0; i < 2000; i++) { /* 2000 names for one tensor of 64 KB: 128 MB from 100 KB */
        buf_printf(&b, "U\x05n%04d", i);
        buf_append(&b, BYTES("h\x02s"));
    }
    buf_append(&b, BYTES("." KEYS));
    buf_append(&file, BYTES(PRELUDE));
    buf_append(&file, b.data, b.len);
    buf_append(&file, BYTES("\0\x40\0\0\0\0\0\0"));
    memset(buf_reserve(&file, 65536), 0, 65536);
    file.len += 65536;
    assert_int_equal(read_only(*state, file.data, file.len, &e), ERR_LIMIT);
    buf_free(&b);
    buf_free(&file);
}

/* ---- archives ---------------------------------------------------------------------------------------------------------- */

struct archive {
    struct buf file, directory;
    int n;
};

static void put(struct buf *b, uint64_t x, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_putc(b, i < 8 ? (char)(x >> (8 * i)) : 0);
}

/* A stored member; method and crc_flip allow what should not be. */
static void add_member(struct archive *a, const char *name, const void *data, size_t len, int method, uint32_t crc_flip)
{
    uint32_t crc = (uint32_t)crc32_z(0, data, len) ^ crc_flip;
    size_t at = a->file.len;
    struct buf *both[] = {&a->file, &a->directory};
    for (int i = 0; i < 2; i++) {
        struct buf *b = both[i];
        buf_append(b, i ? "PK\1\2" : "PK\3\4", 4);
        if (i)
            put(b, 20, 2);
        put(b, 20, 2);
        put(b, 0, 2);
        put(b, (uint64_t)method, 2);
        put(b, 0, 4);
        put(b, crc, 4);
        put(b, len, 4);
        put(b, len, 4);
        put(b, strlen(name), 2);
        put(b, 0, 2);
        if (i) {
            put(b, 0, 10);
            put(b, at, 4);
        }
        buf_puts(b, name);
    }
    buf_append(&a->file, data, len);
    a->n++;
}

static void finish(struct archive *a)
{
    size_t at = a->file.len;
    buf_append(&a->file, a->directory.data, a->directory.len);
    buf_append(&a->file, "PK\5\6\0\0\0\0", 8);
    put(&a->file, (uint64_t)a->n, 2);
    put(&a->file, (uint64_t)a->n, 2);
    put(&a->file, a->directory.len, 4);
    put(&a->file, at, 4);
    put(&a->file, 0, 2);
}

static const char object[] = ONE(FLOATS("K\x04") "K\0K\x04\x85K\x01\x85\x89N");
static const char four[] = "\0\0\x80?\0\0\0@\0\0@@\0\0\x80@";

static int read_archive(struct scope *s, struct archive *a, struct err *e)
{
    finish(a);
    int rc = read_only(s, a->file.data, a->file.len, e);
    buf_free(&a->file);
    buf_free(&a->directory);
    *a = (struct archive){0};
    return rc;
}

static void archives_are_checked(void **state)
{
    struct err e;
    struct archive a = {0};
    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/byteorder", "little", 6, 0, 0);
    add_member(&a, "m/data/0", BYTES(four), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), 0);

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_CORRUPT);
    assert_string_equal(e.msg, "zip: data/0 is missing");

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/data/0", BYTES(four), 0, 1);
    assert_int_equal(read_archive(*state, &a, &e), ERR_CORRUPT);
    assert_string_equal(e.msg, "zip: m/data/0 fails its checksum");

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/data/0", four, 15, 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_CORRUPT);

    add_member(&a, "m/data.pkl", BYTES(object), 8, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_UNSUPPORTED);

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/byteorder", "big", 3, 0, 0);
    add_member(&a, "m/data/0", BYTES(four), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_UNSUPPORTED);

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_CORRUPT);

    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "n/data.pkl", BYTES(object), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_CORRUPT);

    add_member(&a, "photo.png", BYTES(four), 0, 0);
    assert_int_equal(read_archive(*state, &a, &e), ERR_UNSUPPORTED);
}

/* Every field of the end record and the directory set to 0xff: refused or harmless. */
static void archive_fields_may_lie(void **state)
{
    struct err e;
    struct archive a = {0};
    add_member(&a, "m/data.pkl", BYTES(object), 0, 0);
    add_member(&a, "m/data/0", BYTES(four), 0, 0);
    size_t directory = a.file.len;
    finish(&a);
    for (size_t at = directory; at < a.file.len; at++) {
        for (size_t n = 1; n <= 8 && at + n <= a.file.len; n *= 2) {
            char keep[8];
            memcpy(keep, a.file.data + at, n);
            memset(a.file.data + at, 0xff, n);
            read_only(*state, a.file.data, a.file.len, &e);
            memcpy(a.file.data + at, keep, n);
        }
    }
    assert_int_equal(read_only(*state, a.file.data, a.file.len, &e), 0);
    buf_free(&a.file);
    buf_free(&a.directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(both_formats_are_read),      SCOPE_TEST(every_cut_is_noticed),
        SCOPE_TEST(flipped_bits_do_no_harm),    SCOPE_TEST(hostile_pickles_get_an_error),
        SCOPE_TEST(an_unknown_global_is_named), SCOPE_TEST(size_and_depth_are_bounded),
        SCOPE_TEST(shared_storage_is_bounded),  SCOPE_TEST(archives_are_checked),
        SCOPE_TEST(archive_fields_may_lie),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
