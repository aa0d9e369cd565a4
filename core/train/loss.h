/*
 * Losses of saliency maps.
 *   bce        binary cross entropy, as the paper trains
 *   bce+iou    plus one minus the soft intersection over union of each picture
 *   bce+iou+ssim  plus one minus structural similarity (11 x 11 windows), after BASNet (Qin et al., CVPR 2019)
 *   structure  bce+iou, both weighted towards the object's outline, after F3Net (Wei et al., AAAI 2020)
 */
#ifndef CORE_TRAIN_LOSS_H
#define CORE_TRAIN_LOSS_H

#include "core/tensor/tensor.h"

enum loss_kind { LOSS_BCE, LOSS_BCE_IOU, LOSS_BCE_IOU_SSIM, LOSS_STRUCTURE };

int loss_parse(const char *text, enum loss_kind *out, struct err *e);
const char *loss_name(enum loss_kind k);

/* Scalar. logits, target, weight (N,1,H,W), sample_weight (N,1,1,1); NULL weights mean ones. */
struct tensor *loss_saliency(struct scope *s, enum loss_kind k, struct tensor *logits, struct tensor *target,
                             struct tensor *weight, struct tensor *sample_weight);

/* The outline weights of LOSS_STRUCTURE for one mask: 1 + 5 |mean of the surrounding window - mask|, divided by their
 * mean. Other kinds: ones. `scratch` holds 2 * size * size floats. */
void loss_weights(enum loss_kind k, const float *mask, int size, float *weight, float *scratch);

#endif
