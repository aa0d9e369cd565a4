/*
 * Private to core/tensor: what the readers of weight files share. A reader works on bytes in memory (the mapped file),
 * so that it can be tested and fuzzed without files; it checks everything against `len` and trusts nothing.
 */
#ifndef CORE_TENSOR_WEIGHTS_FILE_H
#define CORE_TENSOR_WEIGHTS_FILE_H

#include <stdint.h>

#include "core/tensor/weights.h"

/* The element types of files: their names in both formats, their size, and the type they have in memory. */
struct element_type {
    const char *safetensors; /* "F32" */
    const char *torch;       /* "FloatStorage" */
    size_t bytes;
    enum tensor_dtype as;
    bool widen; /* a small integer that becomes an int64 */
};

const struct element_type *element_by_safetensors(const char *name);
const struct element_type *element_by_torch(const char *name, size_t len);
const struct element_type *element_of(enum tensor_dtype dt);

/* bytes = product(shape) * element size; ERR_CORRUPT on a negative size or overflow, ERR_UNSUPPORTED on too many
 * dimensions. */
int element_bytes(const struct element_type *et, int ndim, const int64_t *shape, size_t *bytes, struct err *e);

/* Adds a copy of contiguous little-endian data to w; F16, BF16 and F64 become F32 unless keep_dtype. src needs no
 * alignment. */
int element_add(struct weights *w, const char *name, const struct element_type *et, const void *src, int ndim,
                const int64_t *shape, bool keep_dtype, struct err *e);

int safetensors_read(struct weights *w, const uint8_t *data, size_t len, bool keep_dtype, struct err *e);
int pth_read(struct weights *w, const uint8_t *data, size_t len, struct err *e);

/* Little-endian numbers at any address. */
static inline uint16_t le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t le32(const uint8_t *p)
{
    return le16(p) | (uint32_t)le16(p + 2) << 16;
}

static inline uint64_t le64(const uint8_t *p)
{
    return le32(p) | (uint64_t)le32(p + 4) << 32;
}

/* Text from a file for an error message: at most size - 1 bytes, control and non-ASCII bytes shown as '?'. Returns out.
 */
const char *printable(char *out, size_t size, const void *text, size_t len);

#endif
