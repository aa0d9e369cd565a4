/*
 * npy: the header is a Python dictionary literal, {'descr': '<f4', 'fortran_order': False, 'shape': (4, 3, 64, 64), },
 * of which only this form is read: the three keys once each, in any order, strings in either quote.
 */
#include "core/net/npy.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/fs.h"

#define MAGIC "\x93NUMPY"
#define MAGIC_LEN 6

/* ---- header ------------------------------------------------------------------------------------------------------ */

struct cursor {
    const char *p, *end;
};

static void blanks(struct cursor *c)
{
    while (c->p < c->end && (*c->p == ' ' || *c->p == '\n'))
        c->p++;
}

static bool take(struct cursor *c, const char *text)
{
    blanks(c);
    size_t n = strlen(text);
    if ((size_t)(c->end - c->p) < n || memcmp(c->p, text, n) != 0)
        return false;
    c->p += n;
    return true;
}

static bool take_string(struct cursor *c, char *out, size_t size)
{
    blanks(c);
    if (c->p == c->end || (*c->p != '\'' && *c->p != '"'))
        return false;
    char quote = *c->p++;
    size_t n = 0;
    while (c->p < c->end && *c->p != quote && n + 1 < size)
        out[n++] = *c->p++;
    out[n] = 0;
    return c->p < c->end && *c->p++ == quote;
}

static bool take_count(struct cursor *c, int64_t *out)
{
    blanks(c);
    const char *start = c->p;
    int64_t v = 0;
    for (; c->p < c->end && *c->p >= '0' && *c->p <= '9'; c->p++) {
        if (v > INT64_MAX / 10 - 1)
            return false;
        v = 10 * v + (*c->p - '0');
    }
    *out = v;
    return c->p > start;
}

static bool take_shape(struct cursor *c, struct npy *a)
{
    if (!take(c, "("))
        return false;
    for (a->ndim = 0; !take(c, ")"); a->ndim++) {
        if (a->ndim == NPY_MAX_DIMS || !take_count(c, &a->shape[a->ndim]))
            return false;
        if (!take(c, ",")) { /* the last one; "(4)" would be a number, not a tuple */
            a->ndim++;
            return a->ndim > 1 && take(c, ")");
        }
    }
    return true;
}

enum { KEY_DESCR = 1, KEY_ORDER = 2, KEY_SHAPE = 4, KEY_ALL = 7 };

static int read_value(struct cursor *c, const char *key, struct npy *a, int *seen, struct err *e)
{
    char type[16];
    if (strcmp(key, "descr") == 0 && !(*seen & KEY_DESCR) && take_string(c, type, sizeof(type))) {
        *seen |= KEY_DESCR;
        if (strcmp(type, "|u1") == 0 || strcmp(type, "<f4") == 0) {
            a->type = type[0] == '|' ? NPY_U8 : NPY_F32;
            return 0;
        }
        return err_set(e, ERR_UNSUPPORTED, "element type '%s': uint8 and little-endian float32 are read", type);
    }
    if (strcmp(key, "fortran_order") == 0 && !(*seen & KEY_ORDER)) {
        *seen |= KEY_ORDER;
        if (take(c, "False"))
            return 0;
        if (take(c, "True"))
            return err_set(e, ERR_UNSUPPORTED, "Fortran order is not read");
    }
    if (strcmp(key, "shape") == 0 && !(*seen & KEY_SHAPE) && take_shape(c, a)) {
        *seen |= KEY_SHAPE;
        return 0;
    }
    return err_set(e, ERR_CORRUPT, "bad header near '%s'", key);
}

static int read_dictionary(struct cursor c, struct npy *a, struct err *e)
{
    int seen = 0;
    bool ok = take(&c, "{");
    while (ok && !take(&c, "}")) {
        char key[24];
        ok = take_string(&c, key, sizeof(key)) && take(&c, ":");
        int rc = ok ? read_value(&c, key, a, &seen, e) : 0;
        if (rc)
            return rc;
        if (ok && !take(&c, ",")) {
            ok = take(&c, "}");
            break;
        }
    }
    blanks(&c);
    if (!ok || c.p != c.end || seen != KEY_ALL)
        return err_set(e, ERR_CORRUPT, "the header is not a .npy dictionary");
    return 0;
}

/* Length of everything before the data, or a negative error. */
static int64_t read_header(const unsigned char *d, size_t len, struct npy *a, struct err *e)
{
    if (len < 12 || memcmp(d, MAGIC, MAGIC_LEN) != 0)
        return err_set(e, ERR_CORRUPT, "not a .npy file");
    if (d[6] < 1 || d[6] > 3 || d[7] != 0)
        return err_set(e, ERR_UNSUPPORTED, "version %d.%d of the .npy format", d[6], d[7]);
    size_t head = d[6] == 1 ? 10 : 12, n = (size_t)d[8] | (size_t)d[9] << 8;
    if (d[6] > 1)
        n |= (size_t)d[10] << 16 | (size_t)d[11] << 24;
    if (n > len - head)
        return err_set(e, ERR_CORRUPT, "the header is longer than the file");
    const char *text = (const char *)d + head;
    int rc = read_dictionary((struct cursor){text, text + n}, a, e);
    return rc ? rc : (int64_t)(head + n);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

static int check_size(struct npy *a, size_t bytes, struct err *e)
{
    size_t each = a->type == NPY_U8 ? 1 : 4, want = each;
    for (int i = 0; i < a->ndim; i++)
        if (__builtin_mul_overflow(want, (size_t)a->shape[i], &want))
            return err_set(e, ERR_CORRUPT, "the shape overflows");
    if (want != bytes)
        return err_set(e, ERR_CORRUPT, "the shape needs %zu bytes, the file holds %zu", want, bytes);
    a->count = want / each;
    return 0;
}

int npy_read(const char *path, size_t max_bytes, struct npy *out, struct err *e)
{
    struct buf b = BUF_INIT;
    memset(out, 0, sizeof(*out));
    int rc = fs_read(path, max_bytes, &b, e);
    if (rc)
        goto out;
    int64_t at = read_header((const unsigned char *)b.data, b.len, out, e);
    rc = at < 0 ? (int)at : check_size(out, b.len - (size_t)at, e);
    if (rc) {
        err_wrap(e, "%s", path);
        goto out;
    }
    memmove(b.data, b.data + at, b.len - (size_t)at);
    out->data = buf_steal(&b, NULL);
    if (!out->data)
        rc = err_set(e, ERR_NOMEM, "%s", path);
out:
    buf_free(&b);
    return rc;
}

void npy_free(struct npy *a)
{
    free(a->data);
    memset(a, 0, sizeof(*a));
}

int npy_write_f32(const char *path, const float *data, int ndim, const int64_t *shape, struct err *e)
{
    struct buf head = BUF_INIT, all = BUF_INIT;
    size_t count = 1;
    buf_puts(&head, "{'descr': '<f4', 'fortran_order': False, 'shape': (");
    for (int i = 0; i < ndim; i++) {
        buf_printf(&head, "%lld,%s", (long long)shape[i], i + 1 < ndim ? " " : "");
        count *= (size_t)shape[i];
    }
    buf_puts(&head, "), }");
    while ((10 + head.len + 1) % 64)
        buf_putc(&head, ' ');
    buf_putc(&head, '\n');
    const char pre[10] = {'\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0, (char)(head.len & 255), (char)(head.len >> 8)};
    buf_append(&all, pre, sizeof(pre));
    buf_append(&all, head.data, head.len);
    buf_append(&all, data, count * sizeof(float));
    int rc =
        head.failed || all.failed ? err_set(e, ERR_NOMEM, "%s", path) : fs_write_atomic(path, all.data, all.len, e);
    buf_free(&head);
    buf_free(&all);
    return rc;
}
