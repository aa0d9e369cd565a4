/*
 * Samples for the flow-guided pseudo-label generator: a clip made from a photo (or a real one), the masks of its first and last
 * frame carried to a frame between them by estimated flow, chained and weighed exactly as propagation does (fgplg_input), and
 * that frame's true mask as the target. So the net trains on the errors it will have to repair: drift, disocclusion, torn limbs.
 */
#ifndef CORE_TRAIN_GUIDED_H
#define CORE_TRAIN_GUIDED_H

#include "core/flow/fgplg_input.h"
#include "core/train/loader.h"
#include "core/train/shot.h"

struct guided;

int guided_new(int size, enum fgplg_style style, const struct fgplg_norm *norm, struct guided **out, struct err *e);
void guided_free(struct guided *g);
/* Thread-safe. Fills at->input (7,size,size) and at->target. Motion, interval and position come from r. */
int guided_make(struct guided *g, struct dataset *d, size_t item, const struct shot_opts *o, struct rng *r,
                const struct batch *at, struct err *e);

#endif
