/*
 * A restricted pickle reader: enough of the format for PyTorch's checkpoints, and nothing that could act. It builds
 * plain values (below) and never looks a name up, calls or imports anything; the few globals it knows stand in one
 * table in pickle.c.
 *
 * Memory and time are bounded by the input: each opcode makes at most one value, memo numbers cannot run ahead of the
 * opcodes, and nothing recurses, so nesting and cycles are harmless as long as the reader of the values does not follow
 * them blindly.
 */
#ifndef CORE_TENSOR_PICKLE_H
#define CORE_TENSOR_PICKLE_H

#include <stddef.h>
#include <stdint.h>

#include "core/tensor/weights_file.h"

enum value_kind {
    VALUE_NONE,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_BIGINT, /* more than 64 bits: bytes, little-endian two's complement */
    VALUE_FLOAT,
    VALUE_STR,
    VALUE_BYTES,
    VALUE_TUPLE,
    VALUE_LIST,
    VALUE_DICT, /* items are key, value, key, value, ...; a later key wins */
    VALUE_GLOBAL,
    VALUE_STORAGE,
    VALUE_TENSOR,
};

struct value {
    enum value_kind kind;
    union {
        int64_t i; /* INT, BOOL; GLOBAL: its row in the table */
        double f;
        struct {
            const uint8_t *p; /* into the input */
            size_t len;
        } text; /* STR, BYTES, BIGINT */
        struct {
            struct value **items;
            size_t n, cap;
        } seq; /* TUPLE, LIST, DICT */
        struct {
            const struct element_type *type;
            const struct value *key; /* STR */
            int64_t numel;           /* of the whole storage in the file */
            int64_t view_offset, view_numel;
            const uint8_t *data; /* filled in by the reader of the file, NULL until then */
        } storage;
        struct {
            struct value *storage;
            int64_t offset;
            const struct value *size, *stride; /* TUPLEs of INT of the same length */
        } tensor;
    } u;
};

struct pickle; /* the arena of values; may run several pickles */

struct pickle *pickle_new(void); /* NULL when out of memory */
void pickle_free(struct pickle *p);
/* Runs one pickle from the start of data. *used gets the bytes up to and with its STOP; the value belongs to p and
 * points into data. ERR_UNSUPPORTED names the first global it does not know; ERR_CORRUPT, ERR_LIMIT, ERR_NOMEM. */
int pickle_run(struct pickle *p, const uint8_t *data, size_t len, struct value **out, size_t *used, struct err *e);
/* Every STORAGE made so far, in order. */
struct value *const *pickle_storages(const struct pickle *p, size_t *n);
/* The value of a text key in a DICT, or NULL. */
struct value *value_dict_get(const struct value *dict, const char *key);

#endif
