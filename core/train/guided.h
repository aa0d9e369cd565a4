/*
 * Samples for the flow-guided pseudo-label generator: a clip made from a photo (or a real one), the masks of its first
 * and last frame carried to a frame between them by the same flow and chaining that propagation uses, and that frame's
 * true mask as the target. So the net trains on the very errors it will have to repair: drift, disocclusion, torn
 * limbs.
 */
#ifndef CORE_TRAIN_GUIDED_H
#define CORE_TRAIN_GUIDED_H

#include "core/train/loader.h"
#include "core/train/shot.h"

struct guided;

int guided_new(int size, struct guided **out, struct err *e);
void guided_free(struct guided *g);
/* Thread-safe. Fills at->input (7,size,size; RGB in 0..1, not normalised) and at->target. Motion, interval and position
 * come from r. */
int guided_make(struct guided *g, struct dataset *d, size_t item, const struct shot_opts *o, bool held_out,
                struct rng *r, const struct batch *at, struct err *e);

#endif
