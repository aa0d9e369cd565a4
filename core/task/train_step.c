/* A single step: the state, losses and optimiser of training itself, on numbers that the caller has. */
#include "core/task/train_step.h"

#include "core/net/model.h"
#include "core/task/train_report.h"
#include "core/train/loss.h"
#include "core/train/state.h"

static int open_state(const struct train_step *t, struct train_state *state, struct err *e)
{
    struct train_state_opts so = {.init = t->init,
                                  .train_image_only = !t->video,
                                  .backbone_scale = 1,
                                  .seed = 1,
                                  .device = t->device,
                                  .doubles = !t->single};
    so.optim = (struct optim_opts){.kind = OPTIM_ADAM, .lr = t->lr, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    return train_state_init(state, t->arch, &so, e);
}

static struct tensor *loss_of(const struct train_step *t, const struct train_state *state, enum loss_kind kind,
                              struct scope *s)
{
    int64_t in[4] = {t->frames, t->arch->in_channels, t->height, t->width},
            out[4] = {t->frames, 1, t->height, t->width};
    enum tensor_dtype dt = t->single ? TENSOR_F32 : TENSOR_F64;
    struct tensor *x = tensor_to(s, tensor_from(s, t->input, TENSOR_F64, 4, in), dt);
    struct tensor *target = tensor_to(s, tensor_from(s, t->target, TENSOR_F64, 4, out), dt);
    x = tensor_channels_last(s, x);
    struct net_mode mode = {.bn = NET_BN_FROZEN, .clip = t->frames, .no_dropout = true};
    scope_set_grad(s, true);
    struct tensor *logits =
        t->video ? net_video(t->arch, state->weights, s, x, mode) : net_image(t->arch, state->weights, s, x, mode);
    return loss_saliency(s, kind, logits, target, NULL, NULL);
}

static int save_after(const struct train_step *t, const struct train_state *state, struct scope *s, struct err *e)
{
    struct weights *w = weights_new(s);
    int rc = w ? 0 : err_set(e, ERR_NOMEM, "weights after the step: out of memory");
    for (size_t i = 0; !rc && i < weights_count(state->weights); i++)
        rc =
            weights_set(w, weights_name(state->weights, i), tensor_to(s, weights_at(state->weights, i), TENSOR_F32), e);
    if (!rc)
        rc = scope_status(s, e);
    if (!rc)
        rc = model_save_weights(t->arch, t->after, w, TENSOR_F32, e);
    weights_free(w);
    return rc;
}

int train_step_run(const struct train_step *t, double *loss, struct err *e)
{
    struct train_state state = {0};
    enum loss_kind kind;
    int rc = loss_parse(t->loss, &kind, e);
    if (!rc && kind == LOSS_STRUCTURE)
        rc = err_set(e, ERR_INVALID, "the structure loss needs outline weights: use bce, bce+iou or bce+iou+ssim");
    if (!rc)
        rc = open_state(t, &state, e);
    if (rc)
        return rc;
    struct scope *s = scope_new(state.root, t->device);
    struct tensor *l = s ? loss_of(t, &state, kind, s) : NULL;
    if (s) {
        *loss = tensor_item(s, l);
        tensor_backward(s, l);
    }
    rc = s ? scope_status(s, e) : err_set(e, ERR_NOMEM, "training step: out of memory");
    if (!rc && t->dump)
        rc = train_report_gradients(&state, s, *loss, t->dump, e);
    if (!rc)
        rc = optim_step(state.optim, 0, NULL, e);
    if (!rc && t->after)
        rc = save_after(t, &state, s, e);
    scope_free(s);
    train_state_fini(&state);
    return rc;
}
