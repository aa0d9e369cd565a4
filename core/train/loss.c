/* Losses, composed from tensor operations so that one definition serves every device. */
#include "core/train/loss.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

static const char *const names[] = {[LOSS_BCE] = "bce",
                                    [LOSS_BCE_IOU] = "bce+iou",
                                    [LOSS_BCE_IOU_SSIM] = "bce+iou+ssim",
                                    [LOSS_STRUCTURE] = "structure"};

int loss_parse(const char *text, enum loss_kind *out, struct err *e)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(text, names[i])) {
            *out = (enum loss_kind)i;
            return 0;
        }
    return err_set(e, ERR_INVALID, "loss '%s' is not one of bce, bce+iou, bce+iou+ssim, structure", text);
}

const char *loss_name(enum loss_kind k)
{
    return names[k];
}

static struct tensor *weighted(struct scope *s, struct tensor *x, struct tensor *w)
{
    return w ? tensor_mul(s, x, w) : x;
}

static struct tensor *picture_sum(struct scope *s, struct tensor *x)
{
    return tensor_sum_dims(s, x, (const int[]){1, 2, 3}, 3); /* (N,1,1,1) */
}

/* (N,1,1,1): 1 - (sum w p t + 1) / (sum w (p + t - p t) + 1) */
static struct tensor *iou_loss(struct scope *s, struct tensor *p, struct tensor *t, struct tensor *w)
{
    struct tensor *both = tensor_mul(s, p, t);
    struct tensor *inter = picture_sum(s, weighted(s, both, w));
    struct tensor *either = picture_sum(s, weighted(s, tensor_sub(s, tensor_add(s, p, t), both), w));
    struct tensor *ratio = tensor_div(s, tensor_scale(s, inter, 1, 1), tensor_scale(s, either, 1, 1));
    return tensor_scale(s, ratio, -1, 1);
}

static struct tensor *window_mean(struct scope *s, struct tensor *x)
{
    return tensor_avg_pool(s, x, 11, 1, 5);
}

/* (N,1,1,1): mean over the picture of 1 - SSIM(p, t) */
static struct tensor *ssim_loss(struct scope *s, struct tensor *p, struct tensor *t)
{
    const double c1 = 0.01 * 0.01, c2 = 0.03 * 0.03;
    double pixels = (double)(tensor_dim(p, 2) * tensor_dim(p, 3));
    struct tensor *mp = window_mean(s, p), *mt = window_mean(s, t), *mpt = tensor_mul(s, mp, mt);
    struct tensor *mp2 = tensor_mul(s, mp, mp), *mt2 = tensor_mul(s, mt, mt);
    struct tensor *vp = tensor_sub(s, window_mean(s, tensor_mul(s, p, p)), mp2);
    struct tensor *vt = tensor_sub(s, window_mean(s, tensor_mul(s, t, t)), mt2);
    struct tensor *cov = tensor_sub(s, window_mean(s, tensor_mul(s, p, t)), mpt);
    struct tensor *num = tensor_mul(s, tensor_scale(s, mpt, 2, c1), tensor_scale(s, cov, 2, c2));
    struct tensor *den =
        tensor_mul(s, tensor_scale(s, tensor_add(s, mp2, mt2), 1, c1), tensor_scale(s, tensor_add(s, vp, vt), 1, c2));
    return tensor_scale(s, picture_sum(s, tensor_div(s, num, den)), -1 / (pixels > 0 ? pixels : 1), 1);
}

static struct tensor *bce_weight(struct scope *s, struct tensor *logits, struct tensor *weight, struct tensor *sample)
{
    int64_t shape[4];
    for (int i = 0; i < 4; i++)
        shape[i] = tensor_dim(logits, i);
    if (weight && sample)
        return tensor_mul(s, weight, sample);
    return weight ? weight : sample ? tensor_expand(s, sample, 4, shape) : NULL;
}

struct tensor *loss_saliency(struct scope *s, enum loss_kind k, struct tensor *logits, struct tensor *target,
                             struct tensor *weight, struct tensor *sample_weight)
{
    if (k != LOSS_STRUCTURE)
        weight = NULL;
    struct tensor *loss = tensor_bce_with_logits(s, logits, target, bce_weight(s, logits, weight, sample_weight));
    if (k == LOSS_BCE)
        return loss;
    struct tensor *p = tensor_sigmoid(s, logits);
    struct tensor *shape_loss = iou_loss(s, p, target, weight);
    if (k == LOSS_BCE_IOU_SSIM)
        shape_loss = tensor_add(s, shape_loss, ssim_loss(s, p, target));
    return tensor_add(s, loss, tensor_mean(s, weighted(s, shape_loss, sample_weight)));
}

/* Running-sum box mean along rows of `in`, written transposed, so that two calls filter both axes. */
static void box_transposed(const float *in, int size, int radius, float *out)
{
    for (int y = 0; y < size; y++) {
        const float *row = in + (size_t)y * (size_t)size;
        float sum = 0;
        for (int x = 0; x < radius && x < size; x++)
            sum += row[x];
        for (int x = 0; x < size; x++) {
            if (x + radius < size)
                sum += row[x + radius];
            if (x - radius - 1 >= 0)
                sum -= row[x - radius - 1];
            int lo = x - radius < 0 ? 0 : x - radius, hi = x + radius >= size ? size - 1 : x + radius;
            out[(size_t)x * (size_t)size + (size_t)y] = sum / (float)(hi - lo + 1);
        }
    }
}

void loss_weights(enum loss_kind k, const float *mask, int size, float *weight, float *scratch)
{
    size_t n = (size_t)size * (size_t)size;
    float *half = scratch, *around = scratch + n;
    double sum = 0;
    int radius = size * 15 / 352; /* F3Net: 31 x 31 windows at 352 px */
    if (k == LOSS_STRUCTURE) {
        box_transposed(mask, size, radius > 1 ? radius : 1, half);
        box_transposed(half, size, radius > 1 ? radius : 1, around);
    }
    for (size_t i = 0; i < n; i++) {
        weight[i] = k == LOSS_STRUCTURE ? 1 + 5 * fabsf(around[i] - mask[i]) : 1;
        sum += weight[i];
    }
    for (size_t i = 0; i < n && k == LOSS_STRUCTURE; i++)
        weight[i] = (float)(weight[i] * (double)n / sum);
}
