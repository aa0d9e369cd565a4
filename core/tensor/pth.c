/*
 * PyTorch checkpoints to named weights.
 *
 *   zip     (torch >= 1.6): an archive of stored members ROOT/data.pkl and ROOT/data/KEY, one for each storage
 *   legacy  (before): pickles of a magic number, the protocol (1001) and the machine's sizes; the pickle of the object;
 * a pickled list of storage keys; then, in that order, each storage as an int64 count and its raw elements
 *
 * The pickle machine gives values whose storages have no data yet; this file finds the data, checks every tensor
 * against its storage, and copies. A tensor is never larger than its storage, and all of them together never larger
 * than MAX_SHARING files, so no file makes the reader allocate out of proportion.
 */
#include "core/tensor/pickle.h"
#include "core/tensor/pth_zip.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHARING 4 /* tied weights are real; a thousand views of one storage are an attack */
#define MAX_WEIGHTS 100000
#define NAME_SHOWN 120

static const char *shown(char *out, const struct value *text)
{
    return printable(out, NAME_SHOWN, text->u.text.p, text->u.text.len);
}

/* ---- where the data of a storage is */

static int storage_bytes(const struct value *s, uint64_t *bytes, struct err *e)
{
    if (__builtin_mul_overflow((uint64_t)s->u.storage.numel, (uint64_t)s->u.storage.type->bytes, bytes))
        return err_set(e, ERR_CORRUPT, "a storage of %" PRId64 " elements", s->u.storage.numel);
    return 0;
}

static int attach_zip(struct pickle *p, struct pth_zip *z, struct err *e)
{
    size_t n;
    struct value *const *all = pickle_storages(p, &n);
    char key[NAME_SHOWN];
    for (size_t i = 0; i < n; i++) {
        const struct value *k = all[i]->u.storage.key;
        const uint8_t *data;
        size_t len;
        uint64_t want;
        int rc = storage_bytes(all[i], &want, e);
        if (!rc)
            rc = pth_zip_find(z, "data/", k->u.text.p, k->u.text.len, &data, &len, e);
        if (!rc && len != want)
            rc = err_set(e, ERR_CORRUPT, "storage %s has %zu bytes, its tensors expect %" PRIu64, shown(key, k), len,
                         want);
        if (rc)
            return rc;
        all[i]->u.storage.data = data;
    }
    return 0;
}

static int compare_text(const struct value *x, const struct value *y)
{
    size_t n = x->u.text.len < y->u.text.len ? x->u.text.len : y->u.text.len;
    int order = n ? memcmp(x->u.text.p, y->u.text.p, n) : 0;
    return order ? order : (x->u.text.len > y->u.text.len) - (x->u.text.len < y->u.text.len);
}

static int compare_keys(const void *a, const void *b)
{
    const struct value *x = *(struct value *const *)a, *y = *(struct value *const *)b;
    return compare_text(x->u.storage.key, y->u.storage.key);
}

/* One storage of the legacy tail at *at: gives its data to every value with that key among the n sorted ones. */
static int attach_next(const struct value *key, struct value **sorted, size_t n, const uint8_t **at, const uint8_t *end,
                       struct err *e)
{
    char text[NAME_SHOWN];
    size_t lo = 0, hi = n;
    if (key->kind != VALUE_STR)
        return err_set(e, ERR_CORRUPT, "a storage key that is not text");
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (compare_text(sorted[mid]->u.storage.key, key) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == n || compare_text(sorted[lo]->u.storage.key, key) != 0)
        return err_set(e, ERR_CORRUPT, "storage %s belongs to no tensor", shown(text, key));
    if (sorted[lo]->u.storage.data)
        return err_set(e, ERR_CORRUPT, "storage %s stands in the file twice", shown(text, key));
    uint64_t bytes;
    int rc = storage_bytes(sorted[lo], &bytes, e);
    if (rc)
        return rc;
    if (end - *at < 8 || le64(*at) != (uint64_t)sorted[lo]->u.storage.numel || (uint64_t)(end - *at - 8) < bytes)
        return err_set(e, ERR_CORRUPT, "storage %s is cut short or has another size than its tensors expect",
                       shown(text, key));
    for (size_t i = lo; i < n && !compare_text(sorted[i]->u.storage.key, key); i++) {
        if (sorted[i]->u.storage.numel != sorted[lo]->u.storage.numel ||
            sorted[i]->u.storage.type != sorted[lo]->u.storage.type)
            return err_set(e, ERR_CORRUPT, "storage %s is described in two ways", shown(text, key));
        sorted[i]->u.storage.data = *at + 8;
    }
    *at += 8 + bytes;
    return 0;
}

static int attach_legacy(struct pickle *p, const struct value *keys, const uint8_t *at, const uint8_t *end,
                         struct err *e)
{
    size_t n;
    struct value *const *all = pickle_storages(p, &n);
    if (keys->kind != VALUE_LIST)
        return err_set(e, ERR_CORRUPT, "the storage keys are not a list");
    struct value **sorted = calloc(n ? n : 1, sizeof(struct value *));
    if (!sorted)
        return err_set(e, ERR_NOMEM, "out of memory for %zu storages", n);
    if (n)
        memcpy(sorted, all, n * sizeof(struct value *));
    qsort(sorted, n, sizeof(struct value *), compare_keys);
    int rc = 0;
    for (size_t i = 0; i < keys->u.seq.n && !rc; i++)
        rc = attach_next(keys->u.seq.items[i], sorted, n, &at, end, e);
    free(sorted);
    return rc;
}

/* ---- tensors */

struct layout {
    int ndim;
    int64_t size[TENSOR_MAX_DIMS], stride[TENSOR_MAX_DIMS];
    int64_t numel;
    bool contiguous;
    const uint8_t *first; /* its first element */
};

/* Checks that every element of the tensor lies inside its storage. */
static int check_layout(const struct value *t, struct layout *l, struct err *e)
{
    const struct value *st = t->u.tensor.storage;
    size_t bytes, n = t->u.tensor.size->u.seq.n;
    if (n > TENSOR_MAX_DIMS)
        return err_set(e, ERR_UNSUPPORTED, "%zu dimensions, at most %d are supported", n, TENSOR_MAX_DIMS);
    if (!st->u.storage.data)
        return err_set(e, ERR_CORRUPT, "its storage is not in the file");
    l->ndim = (int)n;
    for (size_t i = 0; i < n; i++) {
        l->size[i] = t->u.tensor.size->u.seq.items[i]->u.i;
        l->stride[i] = t->u.tensor.stride->u.seq.items[i]->u.i;
    }
    int rc = element_bytes(st->u.storage.type, l->ndim, l->size, &bytes, e);
    if (rc)
        return rc;
    l->numel = (int64_t)(bytes / st->u.storage.type->bytes);
    int64_t last = t->u.tensor.offset, dense = 1;
    bool bad = last < 0 || l->numel > st->u.storage.view_numel;
    l->contiguous = true;
    for (int i = l->ndim - 1; i >= 0 && !bad && l->numel; i--) {
        int64_t reach;
        bad = l->stride[i] < 0 || __builtin_mul_overflow(l->size[i] - 1, l->stride[i], &reach) ||
              __builtin_add_overflow(last, reach, &last);
        l->contiguous &= l->size[i] == 1 || l->stride[i] == dense;
        dense *= l->size[i];
    }
    if (bad || (l->numel && last >= st->u.storage.view_numel))
        return err_set(e, ERR_CORRUPT, "it reaches outside its storage");
    l->first = st->u.storage.data;
    if (l->numel)
        l->first += (size_t)(st->u.storage.view_offset + t->u.tensor.offset) * st->u.storage.type->bytes;
    return 0;
}

/* Copies a strided tensor row-major; the index runs like an odometer. */
static void gather(const struct layout *l, size_t element, uint8_t *out)
{
    int64_t index[TENSOR_MAX_DIMS] = {0}, at = 0;
    for (int64_t k = 0; k < l->numel; k++) {
        memcpy(out + (size_t)k * element, l->first + (size_t)at * element, element);
        for (int d = l->ndim - 1; d >= 0; d--) {
            at += l->stride[d];
            if (++index[d] < l->size[d])
                break;
            at -= l->stride[d] * l->size[d];
            index[d] = 0;
        }
    }
}

static int add_tensor(struct weights *w, const char *name, const struct value *t, uint64_t *budget, struct err *e)
{
    struct layout l;
    const struct element_type *et = t->u.tensor.storage->u.storage.type;
    int rc = check_layout(t, &l, e);
    if (rc)
        return rc;
    size_t bytes = (size_t)l.numel * et->bytes;
    if (bytes > *budget)
        return err_set(e, ERR_LIMIT, "the tensors take more than %d times the size of the file", MAX_SHARING);
    *budget -= bytes;
    if (l.contiguous)
        return element_add(w, name, et, l.first, l.ndim, l.size, false, e);
    uint8_t *dense = malloc(bytes ? bytes : 1);
    if (!dense)
        return err_set(e, ERR_NOMEM, "out of memory for %zu bytes", bytes);
    gather(&l, et->bytes, dense);
    rc = element_add(w, name, et, dense, l.ndim, l.size, false, e);
    free(dense);
    return rc;
}

/* ---- the state dict */

/* The dictionary of weights: the object itself, or what it holds under "state_dict". */
static const struct value *find_state_dict(const struct value *root, struct err *e)
{
    if (root->kind == VALUE_DICT) {
        const struct value *inner = value_dict_get(root, "state_dict");
        if (inner)
            root = inner;
    }
    if (root->kind == VALUE_DICT)
        return root;
    err_set(e, ERR_UNSUPPORTED, "the checkpoint holds no dictionary of weights");
    return NULL;
}

/* The name of a weight as a C string, without the "module." that DataParallel puts before it. */
static int weight_name(const struct value *key, char **out, struct err *e)
{
    if (key->kind != VALUE_STR)
        return err_set(e, ERR_UNSUPPORTED, "a weight whose name is not text");
    const char *p = (const char *)key->u.text.p;
    size_t len = key->u.text.len;
    if (len > 7 && !memcmp(p, "module.", 7)) {
        p += 7;
        len -= 7;
    }
    if (len == 0 || len > 1024 || memchr(p, 0, len))
        return err_set(e, ERR_CORRUPT, "a weight whose name is empty, too long or holds a zero byte");
    *out = strndup(p, len);
    return *out ? 0 : err_set(e, ERR_NOMEM, "out of memory for the name of a weight");
}

static int add_entry(struct weights *w, const struct value *key, const struct value *v, uint64_t *budget, struct err *e)
{
    char *name = NULL, text[NAME_SHOWN];
    int rc = weight_name(key, &name, e);
    if (!name)
        return rc;
    if (v->kind != VALUE_TENSOR)
        rc = err_set(e, ERR_UNSUPPORTED, "it is not a tensor");
    else
        rc = add_tensor(w, name, v, budget, e);
    if (rc)
        err_wrap(e, "weight \"%s\"", printable(text, sizeof text, name, strlen(name)));
    free(name);
    return rc;
}

static int add_all(struct weights *w, const struct value *root, size_t file_bytes, struct err *e)
{
    const struct value *dict = find_state_dict(root, e);
    uint64_t budget = (uint64_t)file_bytes * MAX_SHARING;
    if (!dict)
        return ERR_UNSUPPORTED;
    if (dict->u.seq.n == 0)
        return err_set(e, ERR_UNSUPPORTED, "the checkpoint's dictionary of weights is empty");
    if (dict->u.seq.n / 2 > MAX_WEIGHTS)
        return err_set(e, ERR_LIMIT, "more than %d weights", MAX_WEIGHTS);
    for (size_t i = 0; i < dict->u.seq.n; i += 2) {
        int rc = add_entry(w, dict->u.seq.items[i], dict->u.seq.items[i + 1], &budget, e);
        if (rc)
            return rc;
    }
    return 0;
}

/* ---- the two containers */

static int read_zip(struct weights *w, struct pickle *p, const uint8_t *data, size_t len, struct err *e)
{
    struct pth_zip z = {0};
    const uint8_t *pkl;
    size_t pkl_len, used;
    struct value *root;
    int rc = pth_zip_open(&z, data, len, e);
    if (!rc)
        rc = pth_zip_find(&z, "data.pkl", NULL, 0, &pkl, &pkl_len, e);
    if (!rc)
        rc = pickle_run(p, pkl, pkl_len, &root, &used, e);
    if (!rc)
        rc = attach_zip(p, &z, e);
    if (!rc)
        rc = add_all(w, root, len, e);
    pth_zip_close(&z);
    return rc;
}

static bool is_little_endian(const struct value *sys_info)
{
    const struct value *v = sys_info->kind == VALUE_DICT ? value_dict_get(sys_info, "little_endian") : NULL;
    return !v || v->kind != VALUE_BOOL || v->u.i;
}

static int read_legacy(struct weights *w, struct pickle *p, const uint8_t *data, size_t len, struct err *e)
{
    static const uint8_t magic[10] = {0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19};
    enum { MAGIC, PROTOCOL, SYS_INFO, OBJECT, KEYS, PICKLES };
    struct value *v[PICKLES];
    size_t at = 0, used;
    for (int i = 0; i < PICKLES; i++) {
        int rc = pickle_run(p, data + at, len - at, &v[i], &used, e);
        if (rc)
            return rc;
        at += used;
        if (i == MAGIC && (v[i]->kind != VALUE_BIGINT || v[i]->u.text.len != sizeof magic ||
                           memcmp(v[i]->u.text.p, magic, sizeof magic) != 0))
            return err_set(e, ERR_UNSUPPORTED, "a pickle, but not one that torch.save wrote");
        if (i == PROTOCOL && (v[i]->kind != VALUE_INT || v[i]->u.i != 1001))
            return err_set(e, ERR_UNSUPPORTED, "a checkpoint of an unknown protocol");
        if (i == SYS_INFO && !is_little_endian(v[i]))
            return err_set(e, ERR_UNSUPPORTED, "a checkpoint of a big-endian machine");
    }
    int rc = attach_legacy(p, v[KEYS], data + at, data + len, e);
    return rc ? rc : add_all(w, v[OBJECT], len, e);
}

int pth_read(struct weights *w, const uint8_t *data, size_t len, struct err *e)
{
    if (len < 4)
        return err_set(e, ERR_CORRUPT, "%zu bytes are too short for a checkpoint", len);
    struct pickle *p = pickle_new();
    if (!p)
        return err_set(e, ERR_NOMEM, "out of memory for the checkpoint");
    int rc = memcmp(data, "PK\3\4", 4) ? read_legacy(w, p, data, len, e) : read_zip(w, p, data, len, e);
    pickle_free(p);
    return rc;
}
