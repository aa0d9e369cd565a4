/* What a training run writes about itself: model.json's sections and gradient dumps. Private to core/task. */
#ifndef CORE_TASK_TRAIN_REPORT_H
#define CORE_TASK_TRAIN_REPORT_H

#include "core/task/train.h"
#include "core/train/dataset.h"
#include "core/train/state.h"
#include "core/train/validate.h"

/* JSON objects: how the weights were made, and how they scored with which protocol. */
void train_report_json(const struct train_opts *o, const struct train_state *t, const struct dataset *d,
                       const struct validation *v, char *training, size_t training_size, char *metrics,
                       size_t metrics_size);
/* Writes every leaf's gradient under the leaf's name, and "loss" (1), as float32 safetensors. */
int train_report_gradients(struct train_state *t, struct scope *s, double loss, const char *path, struct err *e);

#endif
