/* NumPy's .npy files, versions 1 to 3: the few types that cross the command line, C order, little-endian. Reading is
 * strict: every byte of the file is accounted for. */
#ifndef CORE_NET_NPY_H
#define CORE_NET_NPY_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

#define NPY_MAX_DIMS 6

enum npy_type { NPY_U8, NPY_F32 };

struct npy {
    enum npy_type type;
    int ndim;
    int64_t shape[NPY_MAX_DIMS];
    size_t count; /* elements */
    void *data;   /* malloc'ed */
};

/* ERR_NOTFOUND, ERR_IO, ERR_CORRUPT, ERR_UNSUPPORTED (another type or Fortran order), ERR_LIMIT (over max_bytes),
 * ERR_NOMEM. */
int npy_read(const char *path, size_t max_bytes, struct npy *out, struct err *e);
void npy_free(struct npy *a); /* zeroes; fine on a zeroed one */
/* Atomic. */
int npy_write_f32(const char *path, const float *data, int ndim, const int64_t *shape, struct err *e);

#endif
