/* The zip archive of a PyTorch checkpoint, read in memory: stored members below one root folder. */
#ifndef CORE_TENSOR_PTH_ZIP_H
#define CORE_TENSOR_PTH_ZIP_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct pth_member;

struct pth_zip {
    const uint8_t *data;
    size_t len;
    struct pth_member *members; /* sorted by name */
    size_t n;
    const uint8_t *root; /* "archive/": what precedes data.pkl */
    size_t root_len;
};

/* data must outlive z. ERR_CORRUPT, ERR_UNSUPPORTED (compressed or encrypted members, big-endian data), ERR_NOMEM.
 * Close in any case. */
int pth_zip_open(struct pth_zip *z, const uint8_t *data, size_t len, struct err *e);
void pth_zip_close(struct pth_zip *z);
/* The member ROOT/prefix+key, its checksum verified. ERR_CORRUPT when it is missing or damaged. */
int pth_zip_find(struct pth_zip *z, const char *prefix, const uint8_t *key, size_t key_len, const uint8_t **data,
                 size_t *len, struct err *e);

#endif
