/* What a training run writes about itself. */
#include "core/task/train_report.h"

#include <stdio.h>

#include "core/tensor/weights.h"

static const char *const stage_names[] = {[TRAIN_IMAGE] = "image", [TRAIN_VIDEO] = "video", [TRAIN_PAPER] = "paper"};

void train_report_json(const struct train_opts *o, const struct train_state *t, const struct dataset *d,
                       const struct validation *v, char *training, size_t training_size, char *metrics,
                       size_t metrics_size)
{
    snprintf(
        training, training_size,
        "{\"stage\": \"%s\", \"pictures\": %zu, \"held_out\": %zu, \"epochs\": %d, \"steps\": %lld, \"batch\": %d, "
        "\"clip\": %d, \"lr\": %g, \"loss\": \"%s\", \"ema\": %g, \"seed\": %llu}",
        stage_names[o->stage], dataset_count(d, false), dataset_count(d, true), t->at.epoch, (long long)t->at.step,
        o->batch, o->clip, o->lr, o->loss, o->ema, (unsigned long long)o->seed);
    snprintf(metrics, metrics_size,
             "{\"validation\": {\"s_measure\": %.4f, \"mae\": %.4f, \"max_f\": %.4f, \"pictures\": %llu, "
             "\"protocol\": \"held-out split at the training size, mean over pictures\"}}",
             v->s_measure, v->mae, v->max_f, (unsigned long long)v->n);
}

int train_report_gradients(struct train_state *t, struct scope *s, double loss, const char *path, struct err *e)
{
    struct weights *w = weights_new(s);
    int rc = w ? 0 : err_set(e, ERR_NOMEM, "gradients: out of memory");
    float value = (float)loss;
    if (!rc)
        rc = weights_set(w, "loss", tensor_from(s, &value, TENSOR_F32, 1, (int64_t[]){1}), e);
    for (size_t i = 0; !rc && i < t->n_leaves; i++) {
        struct tensor *g = tensor_grad(s, t->leaves[i]);
        if (g)
            rc = weights_set(w, t->leaf_names[i], tensor_to(s, g, TENSOR_F32), e);
    }
    if (!rc)
        rc = scope_status(s, e);
    if (!rc)
        rc = weights_save_safetensors(w, path, TENSOR_F32, NULL, e);
    weights_free(w);
    return rc;
}
