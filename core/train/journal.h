/*
 * The record of a training run: log.jsonl (one JSON object per epoch) and a TensorBoard event file with the same
 * numbers.
 */
#ifndef CORE_TRAIN_JOURNAL_H
#define CORE_TRAIN_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

struct journal;
struct journal_value {
    const char *key;
    double value; /* written as null when not finite */
};

/* Opens dir/log.jsonl and an event file. keep_epochs >= 0: lines of later epochs are dropped first (a resumed run
 * writes them again); -1 starts empty. */
int journal_open(const char *dir, int keep_epochs, struct journal **out, struct err *e);
/* Appends {"epoch":E,"step":S,"time":...,key:value...} and flushes. `line`, when not NULL, receives the JSON text
 * (until the next call). */
int journal_write(struct journal *j, int epoch, int64_t step, const struct journal_value *values, size_t n,
                  const char **line, struct err *e);
void journal_close(struct journal *j);

#endif
