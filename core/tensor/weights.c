/*
 * Named weights: an insertion-ordered map from names to tensors, and the part of reading weight files that all formats
 * share.
 *
 * The map is an array in order of insertion plus an open-addressing index of it; nothing is ever removed. Tensors
 * belong to the scope given to weights_new. Files are mapped, parsed in memory by the format's reader and copied, so
 * nothing refers to the file afterwards.
 */
#include "core/tensor/weights_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct entry {
    char *name;
    struct tensor *t;
};

struct weights {
    struct scope *scope;
    struct entry *entries;
    size_t n, cap;
    size_t *index; /* entry number + 1, or 0; index_size is a power of two above 2 * cap */
    size_t index_size;
    char **meta; /* key, value, key, value, ... */
    size_t n_meta;
};

struct weights *weights_new(struct scope *s)
{
    struct weights *w = calloc(1, sizeof *w);
    if (w)
        w->scope = s;
    return w;
}

void weights_free(struct weights *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->n; i++)
        free(w->entries[i].name);
    for (size_t i = 0; i < 2 * w->n_meta; i++)
        free(w->meta[i]);
    free(w->meta);
    free(w->entries);
    free(w->index);
    free(w);
}

struct scope *weights_scope(const struct weights *w)
{
    return w->scope;
}

static uint64_t hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (; *name; name++)
        h = (h ^ (uint8_t)*name) * 0x100000001b3u;
    return h ^ h >> 32;
}

/* The index cell of a name: the one that holds it, or the free one where it belongs. */
static size_t *find_cell(const struct weights *w, const char *name)
{
    size_t mask = w->index_size - 1, i = hash_name(name) & mask;
    while (w->index[i] && strcmp(w->entries[w->index[i] - 1].name, name) != 0)
        i = (i + 1) & mask;
    return &w->index[i];
}

static int grow(struct weights *w, struct err *e)
{
    size_t cap = w->cap ? 2 * w->cap : 128;
    struct entry *entries = realloc(w->entries, cap * sizeof *entries);
    if (entries)
        w->entries = entries;
    size_t *index = calloc(4 * cap, sizeof *index);
    if (!entries || !index) {
        free(index);
        return err_set(e, ERR_NOMEM, "out of memory for %zu weights", cap);
    }
    free(w->index);
    w->index = index;
    w->index_size = 4 * cap;
    w->cap = cap;
    for (size_t i = 0; i < w->n; i++)
        *find_cell(w, w->entries[i].name) = i + 1;
    return 0;
}

int weights_set(struct weights *w, const char *name, struct tensor *t, struct err *e)
{
    if (!t)
        return err_set(e, ERR_INVALID, "weight %s has no tensor", name);
    if (w->n == w->cap && grow(w, e))
        return e ? e->code : ERR_NOMEM;
    size_t *cell = find_cell(w, name);
    if (*cell) {
        w->entries[*cell - 1].t = t;
        return 0;
    }
    char *copy = strdup(name);
    if (!copy)
        return err_set(e, ERR_NOMEM, "out of memory for the name of a weight");
    w->entries[w->n].name = copy;
    w->entries[w->n].t = t;
    *cell = ++w->n;
    return 0;
}

struct tensor *weights_get(const struct weights *w, const char *name)
{
    size_t at = w->n ? *find_cell(w, name) : 0;
    return at ? w->entries[at - 1].t : NULL;
}

size_t weights_count(const struct weights *w)
{
    return w->n;
}

const char *weights_name(const struct weights *w, size_t i)
{
    return i < w->n ? w->entries[i].name : NULL;
}

struct tensor *weights_at(const struct weights *w, size_t i)
{
    return i < w->n ? w->entries[i].t : NULL;
}

/* ---- metadata ------------------------------------------------------------------------------------------------------
 */

const char *weights_meta(const struct weights *w, const char *key)
{
    for (size_t i = 0; i < w->n_meta; i++)
        if (!strcmp(w->meta[2 * i], key))
            return w->meta[2 * i + 1];
    return NULL;
}

int weights_set_meta(struct weights *w, const char *key, const char *value, struct err *e)
{
    char *v = strdup(value), *k = strdup(key);
    char **list = realloc(w->meta, (2 * w->n_meta + 2) * sizeof *list);
    if (list)
        w->meta = list;
    if (!v || !k || !list) {
        free(v);
        free(k);
        return err_set(e, ERR_NOMEM, "out of memory for metadata");
    }
    for (size_t i = 0; i < w->n_meta; i++) {
        if (!strcmp(list[2 * i], key)) {
            free(list[2 * i + 1]);
            list[2 * i + 1] = v;
            free(k);
            return 0;
        }
    }
    list[2 * w->n_meta] = k;
    list[2 * w->n_meta + 1] = v;
    w->n_meta++;
    return 0;
}

/* ---- element types -------------------------------------------------------------------------------------------------
 */

static const struct element_type element_types[] = {
    {"F32", "FloatStorage", 4, TENSOR_F32, false},      {"F16", "HalfStorage", 2, TENSOR_F16, false},
    {"BF16", "BFloat16Storage", 2, TENSOR_BF16, false}, {"F64", "DoubleStorage", 8, TENSOR_F64, false},
    {"I64", "LongStorage", 8, TENSOR_I64, false},       {"I32", "IntStorage", 4, TENSOR_I64, true},
    {"I16", "ShortStorage", 2, TENSOR_I64, true},       {"I8", "CharStorage", 1, TENSOR_I64, true},
    {"U8", "ByteStorage", 1, TENSOR_U8, false},         {"BOOL", "BoolStorage", 1, TENSOR_U8, false},
};
#define N_ELEMENT_TYPES (sizeof element_types / sizeof *element_types)

const struct element_type *element_by_safetensors(const char *name)
{
    for (size_t i = 0; i < N_ELEMENT_TYPES; i++)
        if (!strcmp(element_types[i].safetensors, name))
            return &element_types[i];
    return NULL;
}

const struct element_type *element_by_torch(const char *name, size_t len)
{
    for (size_t i = 0; i < N_ELEMENT_TYPES; i++)
        if (strlen(element_types[i].torch) == len && !memcmp(element_types[i].torch, name, len))
            return &element_types[i];
    return NULL;
}

const struct element_type *element_of(enum tensor_dtype dt)
{
    for (size_t i = 0; i < N_ELEMENT_TYPES; i++)
        if (element_types[i].as == dt && !element_types[i].widen)
            return &element_types[i];
    return NULL;
}

int element_bytes(const struct element_type *et, int ndim, const int64_t *shape, size_t *bytes, struct err *e)
{
    if (ndim > TENSOR_MAX_DIMS)
        return err_set(e, ERR_UNSUPPORTED, "%d dimensions, at most %d are supported", ndim, TENSOR_MAX_DIMS);
    int64_t n = (int64_t)et->bytes;
    for (int i = 0; i < ndim; i++)
        if (shape[i] < 0 || __builtin_mul_overflow(n, shape[i], &n))
            return err_set(e, ERR_CORRUPT, "the shape is negative or overflows");
    *bytes = (size_t)n;
    return 0;
}

static void widen(const struct element_type *et, const uint8_t *src, int64_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (et->bytes == 4)
            out[i] = (int32_t)le32(src + 4 * i);
        else if (et->bytes == 2)
            out[i] = (int16_t)le16(src + 2 * i);
        else
            out[i] = (int64_t)(src[i] ^ 0x80) - 0x80; /* sign-extends */
    }
}

int element_add(struct weights *w, const char *name, const struct element_type *et, const void *src, int ndim,
                const int64_t *shape, bool keep_dtype, struct err *e)
{
    size_t bytes = 0;
    int rc = element_bytes(et, ndim, shape, &bytes, e);
    if (rc)
        return rc;
    int64_t *wide = NULL;
    struct scope *s = scope_new(w->scope, scope_device(w->scope));
    if (et->widen) {
        size_t n = bytes / et->bytes;
        wide = calloc(n ? n : 1, sizeof *wide);
        if (!wide)
            scope_fail(s, ERR_NOMEM, "out of memory for %zu numbers", n);
        else
            widen(et, src, wide, n);
    }
    struct tensor *t = tensor_from(s, wide ? wide : src, et->as, ndim, shape);
    bool narrow = et->as == TENSOR_F16 || et->as == TENSOR_BF16 || et->as == TENSOR_F64;
    if (narrow && !keep_dtype)
        t = tensor_to(s, t, TENSOR_F32);
    rc = scope_status(s, e);
    if (!rc) {
        t = scope_keep(s, t);
        rc = t ? weights_set(w, name, t, e) : scope_status(w->scope, e);
    }
    scope_free(s);
    free(wide);
    return rc;
}

const char *printable(char *out, size_t size, const void *text, size_t len)
{
    const unsigned char *p = text;
    size_t n = len < size - 1 ? len : size - 1;
    for (size_t i = 0; i < n; i++)
        out[i] = p[i] >= 0x20 && p[i] < 0x7f ? (char)p[i] : '?';
    out[n] = 0;
    return out;
}

/* ---- files ---------------------------------------------------------------------------------------------------------
 */

enum format { FORMAT_SAFETENSORS, FORMAT_PTH, FORMAT_UNKNOWN };

static enum format guess(const uint8_t *data, size_t len)
{
    if (len > 8 && data[8] == '{' && le64(data) <= len - 8)
        return FORMAT_SAFETENSORS;
    if (len >= 4 && (!memcmp(data, "PK\3\4", 4) || data[0] == 0x80))
        return FORMAT_PTH;
    return FORMAT_UNKNOWN;
}

static int read_as(struct weights *w, enum format f, const uint8_t *data, size_t len, bool keep_dtype, struct err *e)
{
    if (f == FORMAT_UNKNOWN)
        f = guess(data, len);
    if (f == FORMAT_SAFETENSORS)
        return safetensors_read(w, data, len, keep_dtype, e);
    if (f == FORMAT_PTH)
        return pth_read(w, data, len, e);
    return err_set(e, ERR_UNSUPPORTED, "neither a safetensors file nor a PyTorch checkpoint");
}

static int load(struct weights *w, const char *path, enum format f, bool keep_dtype, struct err *e)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st)) {
        int rc = err_errno(e, "%s", path);
        if (fd >= 0)
            close(fd);
        return rc;
    }
    if (!S_ISREG(st.st_mode) || st.st_size == 0) {
        close(fd);
        return err_set(e, ERR_CORRUPT, "%s: %s", path, st.st_size ? "not a regular file" : "the file is empty");
    }
    size_t len = (size_t)st.st_size;
    void *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    int rc = data == MAP_FAILED ? err_errno(e, "%s: mmap", path) : 0;
    close(fd);
    if (rc)
        return rc;
    rc = read_as(w, f, data, len, keep_dtype, e);
    munmap(data, len);
    return rc ? err_wrap(e, "%s", path), rc : 0;
}

int weights_load_safetensors(struct weights *w, const char *path, bool keep_dtype, struct err *e)
{
    return load(w, path, FORMAT_SAFETENSORS, keep_dtype, e);
}

int weights_load_pth(struct weights *w, const char *path, struct err *e)
{
    return load(w, path, FORMAT_PTH, false, e);
}

int weights_load(struct weights *w, const char *path, struct err *e)
{
    return load(w, path, FORMAT_UNKNOWN, false, e);
}
