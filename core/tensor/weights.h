/*
 * Named weights: what a network is made of. A `struct weights` is an ordered map name -> tensor living in one scope.
 * Readers (safetensors, .pth) fill it; networks look their parameters up by the names of rcrnet-spec.md; trainers walk
 * it.
 */
#ifndef CORE_TENSOR_WEIGHTS_H
#define CORE_TENSOR_WEIGHTS_H

#include "core/tensor/tensor.h"

struct weights;

struct weights *weights_new(struct scope *s); /* borrows the scope, which must outlive it; NULL when out of memory */
void weights_free(struct weights *w);         /* the tensors stay in their scope */
struct scope *weights_scope(const struct weights *w);
/* Adds or replaces. The name is copied. */
int weights_set(struct weights *w, const char *name, struct tensor *t, struct err *e);
/* NULL when absent. */
struct tensor *weights_get(const struct weights *w, const char *name);
size_t weights_count(const struct weights *w);
const char *weights_name(const struct weights *w, size_t i);
struct tensor *weights_at(const struct weights *w, size_t i);

/* safetensors: mmap, every offset, size, overlap and shape checked; ERR_CORRUPT says what is wrong. F16, BF16 and F64
 * become F32 unless keep_dtype. Metadata ("__metadata__") strings are readable with weights_meta. */
int weights_load_safetensors(struct weights *w, const char *path, bool keep_dtype, struct err *e);
/* Atomic write; F32 tensors are stored as `dt` (TENSOR_F32 or TENSOR_F16). meta: "key", "value", ..., NULL (may be
 * NULL). */
int weights_save_safetensors(const struct weights *w, const char *path, enum tensor_dtype dt, const char *const *meta,
                             struct err *e);
const char *weights_meta(const struct weights *w, const char *key);                         /* NULL when absent */
int weights_set_meta(struct weights *w, const char *key, const char *value, struct err *e); /* both copied; replaces */
/* PyTorch checkpoints, zip and legacy format, by a restricted pickle reader that executes nothing. Unwraps
 * {"state_dict": ...}, strips "module.". ERR_UNSUPPORTED names the first global it does not know; ERR_CORRUPT
 * otherwise. */
int weights_load_pth(struct weights *w, const char *path, struct err *e);
/* By content: safetensors or .pth. */
int weights_load(struct weights *w, const char *path, struct err *e);

#endif
