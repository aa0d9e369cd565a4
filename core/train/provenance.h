/* labels.json: where each label of a clip comes from, as `propagate` and project snapshots write it. */
#ifndef CORE_TRAIN_PROVENANCE_H
#define CORE_TRAIN_PROVENANCE_H

#include <stdbool.h>

#include "core/base/err.h"

struct provenance;
struct provenance_label {
    char name[128]; /* stem of the frame's file, or "" when only the number is known */
    int frame;
    double weight; /* manual and accepted 1, pseudo-label its confidence, rejected and uncovered 0 */
    bool pseudo;
};

/* Accepts an array of labels, or an object with a "labels" array. A label is an object with "frame" (number or stem),
 * "source", and optionally "state" and "confidence". ERR_INVALID names the entry that is not understood. */
int provenance_read(const char *path, struct provenance **out, struct err *e);
void provenance_free(struct provenance *p);
/* By stem of `file`, else by ordinal; NULL when unknown. */
const struct provenance_label *provenance_find(const struct provenance *p, const char *file, int frame);

#endif
