/*
 * A plan: a model's network prepared for one input shape (batch norms folded, captured as a fused graph, the published
 * decoder in its factored form) and run on plain memory. What inference uses everywhere: the detector, propagation,
 * `salient model run`.
 */
#ifndef CORE_NET_PLAN_H
#define CORE_NET_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "core/net/model.h"

struct plan;

struct plan_shape {
    int frames, height, width; /* N, H, W of the input; H, W >= 32 */
    bool video;                /* the frames are one clip through the temporal module; else independent images */
};

/* The model is only used during the call; afterwards it may be trimmed. ERR_INVALID for a shape the network cannot
 * take, ERR_UNSUPPORTED for video without a temporal module. */
int plan_new(struct model *m, struct plan_shape shape, struct plan **out, struct err *e);
void plan_free(struct plan *p); /* NULL is fine */
/* in: frames x channels x H x W, normalised. logits: frames x H x W. Several threads may run one plan. ERR_COMPUTE, ERR_NOMEM,
 * ERR_DEVICE_LOST. */
int plan_run(struct plan *p, float *in, float *logits, struct err *e);

#endif
