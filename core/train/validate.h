/* Scores of a network on the held-out part of a data set, at the training size: quick, and comparable between epochs.
 */
#ifndef CORE_TRAIN_VALIDATE_H
#define CORE_TRAIN_VALIDATE_H

#include "core/net/net.h"
#include "core/train/sampler.h"

struct validation {
    double s_measure, mae, max_f, loss;
    uint64_t n; /* pictures measured */
};

/* Runs at most `limit` held-out samples, spread evenly. video: through the temporal module. All zero without held-out
 * samples. */
int validate(const struct net_arch *a, const struct weights *w, struct sampler *s, struct batch_shape shape,
             uint64_t limit, bool video, struct tensor_device dev, struct validation *out, struct err *e);

#endif
