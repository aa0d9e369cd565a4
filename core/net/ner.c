/*
 * NER, the Non-locally Enhanced Recurrent module (Yan et al., ICCV 2019, section 3.2): a non-local block over all
 * positions of a clip, a bidirectional convolutional GRU, and a second non-local block.
 *
 * Two exact rewrites. The non-local affinity is divided by the number of positions instead of a softmax, so (theta^T
 * phi) g = theta^T (phi g): the product of two small matrices instead of one as large as the clip squared. And a gate's
 * convolution of [x, h] is the sum of one over x, which runs for all frames and gates at once, and one over h, which
 * has to wait for the step before.
 */
#include "core/net/layers.h"

/* ---- non-local block */

/* (B*T,C,h,w) -> (B,C,T*h*w) */
static struct tensor *positions(struct net_walk *n, struct tensor *x, int64_t clip, int channels)
{
    int64_t plane = tensor_dim(x, 2) * tensor_dim(x, 3), frames = tensor_dim(x, 0);
    x = tensor_reshape(n->s, x, 4, (int64_t[]){frames / clip, clip, channels, plane});
    x = tensor_transpose(n->s, x, 1, 2);
    return tensor_reshape(n->s, x, 3, (int64_t[]){frames / clip, channels, clip * plane});
}

/* z = W((theta^T phi / N) g) + x, N positions of the clip. Wang et al., "Non-local Neural Networks", CVPR 2018, dot
 * product. */
static struct tensor *non_local(struct net_walk *n, struct tensor *x, const char *name, int channels, int64_t clip)
{
    struct scope *s = n->s;
    int mid = channels / 2;
    int64_t frames = tensor_dim(x, 0), h = tensor_dim(x, 2), w = tensor_dim(x, 3), total = clip * h * w;
    struct conv embed = {.in = channels, .out = mid, .k = 1, .conv3d = true, .fill = NET_FILL_LECUN};
    struct tensor *g = positions(n, net_conv(n, x, NET_NAME("%s.g", name), embed), clip, mid);
    struct tensor *theta = positions(n, net_conv(n, x, NET_NAME("%s.theta", name), embed), clip, mid);
    struct tensor *phi = positions(n, net_conv(n, x, NET_NAME("%s.phi", name), embed), clip, mid);
    /* (B,mid,mid): mix[c][d] = sum over positions of g[c] phi[d] / N */
    struct tensor *mix = tensor_matmul(s, g, tensor_transpose(s, phi, 1, 2));
    mix = tensor_scale(s, mix, total > 0 ? 1.0 / (double)total : 0, 0);
    struct tensor *y = tensor_matmul(s, mix, theta); /* (B,mid,T*h*w) */
    y = tensor_reshape(s, y, 4, (int64_t[]){frames / clip, mid, clip, h * w});
    y = tensor_reshape(s, tensor_transpose(s, y, 1, 2), 4, (int64_t[]){frames, mid, h, w});
    struct conv back = {.in = mid, .out = channels, .k = 1, .conv3d = true, .fill = NET_FILL_ZERO};
    return tensor_add(s, net_conv(n, y, NET_NAME("%s.W", name), back), x);
}

/* ---- convolutional GRU ------------------------------------------------------------------------------------------- */

enum { RESET, UPDATE, OUTPUT, GATES };

struct gru {
    struct tensor *x_kernel, *bias; /* (3C,C,3,3), (3C): every gate's share of x */
    struct tensor *h_kernel;        /* (2C,C,3,3): reset's and update's share of h */
    struct tensor *rh_kernel;       /* (C,C,3,3): output's share of r*h */
};

static struct gru gru_params(struct net_walk *n, const char *name, int c)
{
    static const char *const gate[GATES] = {"reset_gate", "update_gate", "output_gate"};
    struct scope *s = n->s;
    struct tensor *from_x[GATES], *from_h[GATES], *bias[GATES];
    for (int i = 0; i < GATES; i++) {
        struct tensor *k = net_param(n, NET_NAME("%s.%s.weight", name, gate[i]), NET_WEIGHT, NET_FILL_LECUN, 4,
                                     (int64_t[]){c, 2 * c, 3, 3});
        bias[i] = net_param(n, NET_NAME("%s.%s.bias", name, gate[i]), NET_BIAS, NET_FILL_ZERO, 1, (int64_t[]){c});
        from_x[i] = tensor_slice(s, k, 1, 0, c);
        from_h[i] = tensor_slice(s, k, 1, c, c);
    }
    return (struct gru){.x_kernel = tensor_concat(s, from_x, GATES, 0),
                        .bias = tensor_concat(s, bias, GATES, 0),
                        .h_kernel = tensor_concat(s, from_h, 2, 0),
                        .rh_kernel = from_h[OUTPUT]};
}

static struct tensor *conv3x3(struct net_walk *n, struct tensor *x, struct tensor *k, struct tensor *bias)
{
    struct tensor *y = tensor_conv2d(n->s, x, k, bias, (struct conv_opts){.pad = 1});
    if (n->mode.macs)
        *n->mode.macs += (double)tensor_numel(y) * 9 * (double)tensor_dim(k, 1);
    return y;
}

/* One step: r = s(reset), z = s(update), o = tanh(output([x, r*h])), h' = (1 - z) o + z h. xg: x's share of the gates,
 * (B,3C,h,w) */
static struct tensor *gru_step(struct net_walk *n, const struct gru *p, struct tensor *xg, struct tensor *h, int c)
{
    struct scope *s = n->s;
    struct tensor *rz = tensor_add(s, tensor_slice(s, xg, 1, 0, 2 * c), conv3x3(n, h, p->h_kernel, NULL));
    rz = tensor_sigmoid(s, rz);
    struct tensor *r = tensor_slice(s, rz, 1, 0, c), *z = tensor_slice(s, rz, 1, c, c);
    struct tensor *o =
        tensor_add(s, tensor_slice(s, xg, 1, 2 * c, c), conv3x3(n, tensor_mul(s, r, h), p->rh_kernel, NULL));
    o = tensor_tanh(s, o);
    return tensor_add(s, o, tensor_mul(s, z, tensor_sub(s, h, o)));
}

/* Frame t of every clip: (B*T,C,h,w) -> (B,C,h,w). */
static struct tensor *frame(struct net_walk *n, struct tensor *x, int64_t t, int64_t clip)
{
    int64_t b = tensor_dim(x, 0) / clip, c = tensor_dim(x, 1), h = tensor_dim(x, 2), w = tensor_dim(x, 3);
    if (b == 1)
        return tensor_slice(n->s, x, 0, t, 1);
    x = tensor_reshape(n->s, x, 5, (int64_t[]){b, clip, c, h, w});
    return tensor_reshape(n->s, tensor_slice(n->s, x, 1, t, 1), 4, (int64_t[]){b, c, h, w});
}

/* The inverse: T tensors (B,C,h,w) -> (B*T,C,h,w). */
static struct tensor *stack(struct net_walk *n, struct tensor *const *f, int64_t clip)
{
    int64_t b = tensor_dim(f[0], 0), c = tensor_dim(f[0], 1), h = tensor_dim(f[0], 2), w = tensor_dim(f[0], 3);
    if (b == 1)
        return tensor_concat(n->s, f, (int)clip, 0);
    struct tensor *x = tensor_concat(n->s, f, (int)clip, 1); /* (B,T*C,h,w) */
    return tensor_reshape(n->s, x, 4, (int64_t[]){b * clip, c, h, w});
}

#define CLIP_MAX 64

/* Runs over the frames in order, or backwards; the first state is the first frame it sees. Writes out[t]; returns them
 * stacked. */
static struct tensor *gru(struct net_walk *n, struct tensor *x, const char *name, int c, int64_t clip, bool backward)
{
    struct gru p = gru_params(n, name, c);
    struct tensor *gates = conv3x3(n, x, p.x_kernel, p.bias); /* (B*T,3C,h,w) */
    struct tensor *out[CLIP_MAX];
    struct tensor *h = frame(n, x, backward ? clip - 1 : 0, clip);
    for (int64_t i = 0; i < clip; i++) {
        int64_t t = backward ? clip - 1 - i : i;
        h = out[t] = gru_step(n, &p, frame(n, gates, t, clip), h, c);
    }
    return stack(n, out, clip);
}

struct tensor *ner(struct net_walk *n, struct tensor *x, int channels, enum net_fill last)
{
    struct scope *s = n->s;
    int64_t frames = tensor_dim(x, 0), clip = n->mode.clip > 0 ? n->mode.clip : frames;
    if (n->pass != NET_RUN) {
        clip = 1;
    } else if (clip < 1 || clip > CLIP_MAX || frames % clip != 0) {
        scope_fail(s, ERR_INVALID, "clips of %lld frames in a stack of %lld; a clip has 1 to %d", (long long)clip,
                   (long long)frames, CLIP_MAX);
        return NULL;
    }
    x = non_local(n, x, "non_local_block", channels, clip);
    struct tensor *both[2];
    both[0] = gru(n, x, "convgru_forward", channels, clip, false);
    both[1] = gru(n, both[0], "convgru_backward", channels, clip, true);
    x = net_conv(n, tensor_concat(s, both, 2, 1), "bidirection_conv",
                 (struct conv){.in = 2 * channels, .out = channels, .k = 3, .fill = last});
    return non_local(n, tensor_tanh(s, x), "non_local_block2", channels, clip);
}
