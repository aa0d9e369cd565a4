/*
 * safetensors: u64 little-endian header length, a JSON header {name: {dtype, shape, data_offsets}}, raw data.
 *
 * Reading checks, as the reference implementation does, that the header is one JSON object without duplicate names,
 * that every range has the size its shape asks for, and that the ranges tile the data exactly: no hole, no overlap, no
 * rest. All of that happens before the first tensor is made, so a damaged file adds nothing.
 */
#include "core/tensor/weights_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/base/buf.h"
#include "core/base/fs.h"

/* Far above any network (50 000 tensors), far below what would make the JSON tree a memory problem. */
#define MAX_HEADER_BYTES ((uint64_t)8 << 20)
#define NAME_SHOWN 120

struct item {
    const char *name; /* of the JSON tree */
    const struct element_type *et;
    int ndim;
    int64_t shape[TENSOR_MAX_DIMS];
    uint64_t begin, end;
};

/* ---- reading -------------------------------------------------------------------------------------------------------
 */

static int read_shape(json_t *shape, struct item *it, struct err *e)
{
    if (!json_is_array(shape))
        return err_set(e, ERR_CORRUPT, "shape is not a list");
    size_t n = json_array_size(shape);
    if (n > TENSOR_MAX_DIMS)
        return err_set(e, ERR_UNSUPPORTED, "%zu dimensions, at most %d are supported", n, TENSOR_MAX_DIMS);
    it->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        json_t *v = json_array_get(shape, i);
        if (!json_is_integer(v))
            return err_set(e, ERR_CORRUPT, "shape holds something that is not an integer");
        it->shape[i] = json_integer_value(v);
    }
    return 0;
}

static int read_item(json_t *entry, uint64_t data_len, struct item *it, struct err *e)
{
    char shown[NAME_SHOWN];
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    json_t *offsets = json_object_get(entry, "data_offsets");
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    size_t bytes;
    if (!dtype)
        return err_set(e, ERR_CORRUPT, "no dtype");
    it->et = element_by_safetensors(dtype);
    if (!it->et)
        return err_set(e, ERR_UNSUPPORTED, "dtype \"%s\" is not supported",
                       printable(shown, sizeof shown, dtype, strlen(dtype)));
    int rc = read_shape(json_object_get(entry, "shape"), it, e);
    if (rc)
        return rc;
    if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
        json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return err_set(e, ERR_CORRUPT, "data_offsets is not a pair of ascending offsets");
    it->begin = (uint64_t)json_integer_value(begin);
    it->end = (uint64_t)json_integer_value(end);
    if (it->end > data_len)
        return err_set(e, ERR_CORRUPT, "data_offsets end at %" PRIu64 ", the data has %" PRIu64 " bytes", it->end,
                       data_len);
    rc = element_bytes(it->et, it->ndim, it->shape, &bytes, e);
    if (!rc && bytes != it->end - it->begin)
        return err_set(e, ERR_CORRUPT, "%s of this shape needs %zu bytes, data_offsets give %" PRIu64, dtype, bytes,
                       it->end - it->begin);
    return rc;
}

static int read_meta(struct weights *w, json_t *meta, struct err *e)
{
    const char *key;
    json_t *value;
    if (!json_is_object(meta))
        return err_set(e, ERR_CORRUPT, "__metadata__ is not an object");
    json_object_foreach(meta, key, value)
    {
        if (!json_is_string(value))
            return err_set(e, ERR_CORRUPT, "__metadata__ holds something that is not a string");
        int rc = weights_set_meta(w, key, json_string_value(value), e);
        if (rc)
            return rc;
    }
    return 0;
}

static int compare_begin(const void *a, const void *b)
{
    const struct item *x = *(const struct item *const *)a, *y = *(const struct item *const *)b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

/* The ranges, sorted, must follow each other from 0 to the end of the data. */
static int check_tiling(const struct item *items, size_t n, uint64_t data_len, struct err *e)
{
    uint64_t at = 0;
    char shown[NAME_SHOWN];
    const struct item **sorted = calloc(n ? n : 1, sizeof(const struct item *));
    if (!sorted)
        return err_set(e, ERR_NOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; i < n; i++)
        sorted[i] = &items[i];
    qsort(sorted, n, sizeof(const struct item *), compare_begin);
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        if (sorted[i]->begin != at)
            rc = err_set(e, ERR_CORRUPT, "tensor \"%s\" begins at %" PRIu64 " and %s at %" PRIu64,
                         printable(shown, sizeof shown, sorted[i]->name, strlen(sorted[i]->name)), sorted[i]->begin,
                         sorted[i]->begin < at ? "overlaps the one that ends" : "leaves a hole", at);
        at = sorted[i]->end;
    }
    if (!rc && at != data_len)
        rc = err_set(e, ERR_CORRUPT, "%" PRIu64 " bytes of data follow the last tensor", data_len - at);
    free(sorted);
    return rc;
}

static int read_items(struct weights *w, json_t *root, uint64_t data_len, struct item *items, size_t *n, struct err *e)
{
    const char *name;
    json_t *entry;
    char shown[NAME_SHOWN];
    *n = 0;
    json_object_foreach(root, name, entry)
    {
        int rc;
        if (!strcmp(name, "__metadata__")) {
            rc = read_meta(w, entry, e);
        } else {
            struct item *it = &items[(*n)++];
            it->name = name;
            rc = read_item(entry, data_len, it, e);
            if (rc)
                err_wrap(e, "tensor \"%s\"", printable(shown, sizeof shown, name, strlen(name)));
        }
        if (rc)
            return rc;
    }
    return check_tiling(items, *n, data_len, e);
}

/* The header as a JSON object; its length in *header_len. NULL on error. */
static json_t *read_header(const uint8_t *data, size_t len, uint64_t *header_len, struct err *e)
{
    if (len < 8) {
        err_set(e, ERR_CORRUPT, "%zu bytes are too short for a safetensors file", len);
        return NULL;
    }
    *header_len = le64(data);
    if (*header_len > len - 8) {
        err_set(e, ERR_CORRUPT, "the header claims %" PRIu64 " bytes, the file has %zu", *header_len, len - 8);
        return NULL;
    }
    if (*header_len > MAX_HEADER_BYTES) {
        err_set(e, ERR_LIMIT, "the header has %" PRIu64 " bytes, more than %" PRIu64, *header_len, MAX_HEADER_BYTES);
        return NULL;
    }
    json_error_t why;
    json_t *root = json_loadb((const char *)data + 8, (size_t)*header_len, JSON_REJECT_DUPLICATES, &why);
    if (!root)
        err_set(e, ERR_CORRUPT, "the header is not valid JSON at byte %d", why.position);
    else if (!json_is_object(root))
        err_set(e, ERR_CORRUPT, "the header is not a JSON object");
    if (json_is_object(root))
        return root;
    json_decref(root);
    return NULL;
}

int safetensors_read(struct weights *w, const uint8_t *data, size_t len, bool keep_dtype, struct err *e)
{
    struct err own = {0};
    uint64_t header_len;
    if (!e)
        e = &own;
    json_t *root = read_header(data, len, &header_len, e);
    if (!root)
        return e->code;
    const uint8_t *body = data + 8 + header_len;
    size_t n = json_object_size(root);
    struct item *items = calloc(n ? n : 1, sizeof *items);
    int rc = items ? read_items(w, root, len - 8 - header_len, items, &n, e)
                   : err_set(e, ERR_NOMEM, "out of memory for %zu tensors", n);
    for (size_t i = 0; items && i < n && !rc; i++)
        rc = element_add(w, items[i].name, items[i].et, body + items[i].begin, items[i].ndim, items[i].shape,
                         keep_dtype, e);
    free(items);
    json_decref(root);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------------------------------
 */

static enum tensor_dtype stored_type(const struct tensor *t, enum tensor_dtype dt)
{
    return tensor_dtype_of(t) == TENSOR_F32 ? dt : tensor_dtype_of(t);
}

static json_t *describe(const struct tensor *t, const struct element_type *et, uint64_t begin, uint64_t *end)
{
    json_t *shape = json_array();
    for (int i = 0; i < tensor_ndim(t); i++)
        json_array_append_new(shape, json_integer(tensor_dim(t, i)));
    *end = begin + (uint64_t)tensor_numel(t) * et->bytes;
    return json_pack("{s:s, s:o, s:[I,I]}", "dtype", et->safetensors, "shape", shape, "data_offsets", (json_int_t)begin,
                     (json_int_t)*end);
}

/* Appends the 8 bytes of length and the header, padded so that the data begins at a multiple of 8. */
static int write_header(const struct weights *w, enum tensor_dtype dt, const char *const *meta, struct buf *out,
                        struct err *e)
{
    json_t *root = json_object();
    uint64_t at = 0;
    int bad = 0;
    if (meta && *meta) {
        json_t *strings = json_object();
        for (; meta[0]; meta += 2)
            bad |= json_object_set_new(strings, meta[0], json_string(meta[1]));
        bad |= json_object_set_new(root, "__metadata__", strings);
    }
    for (size_t i = 0; i < weights_count(w); i++) {
        const struct tensor *t = weights_at(w, i);
        bad |= json_object_set_new(root, weights_name(w, i), describe(t, element_of(stored_type(t, dt)), at, &at));
    }
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    if (bad || !text) {
        free(text);
        return err_set(e, ERR_INVALID, "a name or a metadata string is not UTF-8, or memory ran out");
    }
    uint64_t len = strlen(text), padded = (len + 7) & ~(uint64_t)7;
    for (int i = 0; i < 8; i++)
        buf_putc(out, (char)(padded >> (8 * i) & 0xff));
    buf_append(out, text, len);
    buf_append(out, "       ", padded - len);
    free(text);
    return 0;
}

/* A float16 reaches 65504: a weight beyond it would come back as infinity. */
static int check_fits_f16(struct scope *s, struct tensor *t, const char *name, struct err *e)
{
    const float *p = tensor_data(s, t);
    for (int64_t i = 0; p && i < tensor_numel(t); i++)
        if (isfinite(p[i]) && fabsf(p[i]) >= 65520.0f)
            return err_set(e, ERR_INVALID, "weight %s holds %g, which float16 cannot store", name, (double)p[i]);
    return scope_status(s, e);
}

static int write_tensor(struct scope *parent, const char *name, struct tensor *t, enum tensor_dtype dt, struct buf *out,
                        struct err *e)
{
    struct scope *s = scope_new(parent, (struct tensor_device){TENSOR_CPU, 0});
    enum tensor_dtype as = stored_type(t, dt);
    size_t bytes = (size_t)tensor_numel(t) * element_of(as)->bytes;
    int rc = as == TENSOR_F16 && tensor_dtype_of(t) == TENSOR_F32 ? check_fits_f16(s, t, name, e) : 0;
    void *room = rc ? NULL : buf_reserve(out, bytes);
    if (!rc && !room)
        rc = err_set(e, ERR_NOMEM, "out of memory for weight %s", name);
    if (!rc) {
        tensor_read_raw(s, tensor_to(s, t, as), room, bytes);
        rc = scope_status(s, e);
    }
    if (!rc)
        out->len += bytes;
    scope_free(s);
    return rc;
}

int weights_save_safetensors(const struct weights *w, const char *path, enum tensor_dtype dt, const char *const *meta,
                             struct err *e)
{
    struct buf out = BUF_INIT;
    BUG_ON(dt != TENSOR_F32 && dt != TENSOR_F16);
    int rc = write_header(w, dt, meta, &out, e);
    for (size_t i = 0; i < weights_count(w) && !rc; i++)
        rc = write_tensor(weights_scope(w), weights_name(w, i), weights_at(w, i), dt, &out, e);
    if (!rc && out.failed)
        rc = err_set(e, ERR_NOMEM, "out of memory for the file");
    if (!rc)
        rc = fs_write_atomic(path, out.data, out.len, e);
    buf_free(&out);
    return rc;
}
