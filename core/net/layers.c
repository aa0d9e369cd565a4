/*
 * layers: the vocabulary of the network definitions, and the one place that knows whether a walk runs, declares or
 * folds.
 *
 * Folding: a convolution w without bias followed by a batch norm is the convolution w * g with bias beta - mean * g,
 * where g = gamma / sqrt(var + eps) per output channel.
 */
#include "core/net/layers.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *net_name(char *buf, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(buf, NET_NAME_MAX, fmt, ap);
    va_end(ap);
    BUG_ON(n < 0 || n >= NET_NAME_MAX);
    return buf;
}

static void declare(struct net_walk *n, const struct net_param *p)
{
    struct net_params *l = n->params;
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 256;
        struct net_param *v = realloc(l->v, cap * sizeof(*v));
        if (!v) {
            err_set(n->e, ERR_NOMEM, "parameters of a network");
            n->failed = true;
            return;
        }
        l->v = v;
        l->cap = cap;
    }
    l->v[l->n++] = *p;
}

struct tensor *net_param(struct net_walk *n, const char *name, enum net_role role, enum net_fill fill, int ndim,
                         const int64_t *shape)
{
    if (n->failed)
        return NULL;
    if (n->pass == NET_DECLARE) {
        struct net_param p = {.ndim = ndim, .role = role, .fill = fill};
        snprintf(p.name, sizeof(p.name), "%s", name);
        memcpy(p.shape, shape, sizeof(*shape) * (size_t)ndim);
        declare(n, &p);
        return NULL;
    }
    struct tensor *t = weights_get(n->w, name);
    if (!t) {
        if (n->pass == NET_FOLD)
            err_set(n->e, ERR_INVALID, "the weights lack %s", name);
        scope_fail(n->s, ERR_INVALID, "the weights lack %s", name);
        n->failed = true;
    } else if (n->pass == NET_FOLD) {
        n->failed = weights_set(n->folded, name, t, n->e) != 0;
        return NULL;
    }
    return t;
}

/* ---- convolution ------------------------------------------------------------------------------------------------- */

static int or1(int v)
{
    return v ? v : 1;
}

static struct tensor *kernel(struct net_walk *n, const char *name, struct conv c)
{
    int64_t shape[5] = {c.out, c.in / or1(c.groups), c.k, c.k, 1};
    return net_param(n, NET_NAME("%s.weight", name), NET_WEIGHT, c.fill, c.conv3d ? 5 : 4, shape);
}

static struct tensor *convolve(struct net_walk *n, struct tensor *x, struct tensor *w, struct tensor *b, struct conv c)
{
    if (n->pass != NET_RUN)
        return NULL;
    if (c.conv3d)
        w = tensor_reshape(n->s, w, 4, (int64_t[]){c.out, c.in, c.k, c.k});
    struct conv_opts o = {.stride = or1(c.stride),
                          .pad = c.k / 2 * or1(c.dilation),
                          .dilation = or1(c.dilation),
                          .groups = or1(c.groups)};
    struct tensor *y = tensor_conv2d(n->s, x, w, b, o);
    if (n->mode.macs)
        *n->mode.macs += (double)tensor_numel(y) * c.k * c.k * c.in / or1(c.groups);
    return y;
}

struct tensor *net_conv(struct net_walk *n, struct tensor *x, const char *name, struct conv c)
{
    struct tensor *w = kernel(n, name, c), *b = NULL;
    if (!c.no_bias)
        b = net_param(n, NET_NAME("%s.bias", name), NET_BIAS, NET_FILL_ZERO, 1, (int64_t[]){c.out});
    return convolve(n, x, w, b, c);
}

/* ---- batch norm -------------------------------------------------------------------------------------------------- */

struct norm {
    struct tensor *gamma, *beta, *mean, *var; /* (C) each */
};

static struct norm norm_params(struct net_walk *n, const char *bn, int channels)
{
    int64_t c[1] = {channels};
    return (struct norm){
        .gamma = net_param(n, NET_NAME("%s.weight", bn), NET_NORM_SCALE, NET_FILL_ONE, 1, c),
        .beta = net_param(n, NET_NAME("%s.bias", bn), NET_NORM_SHIFT, NET_FILL_ZERO, 1, c),
        .mean = net_param(n, NET_NAME("%s.running_mean", bn), NET_NORM_MEAN, NET_FILL_ZERO, 1, c),
        .var = net_param(n, NET_NAME("%s.running_var", bn), NET_NORM_VAR, NET_FILL_ONE, 1, c),
    };
}

static struct tensor *normalise(struct net_walk *n, struct tensor *x, const char *bn, struct norm p, double eps)
{
    if (n->pass != NET_RUN)
        return NULL;
    const char *frozen = n->mode.frozen;
    if (n->mode.bn == NET_BN_FROZEN || (frozen && strncmp(bn, frozen, strlen(frozen)) == 0))
        return tensor_batch_norm(n->s, x, p.gamma, p.beta, p.mean, p.var, eps);
    double momentum = n->mode.bn_momentum > 0 ? n->mode.bn_momentum : 0.1;
    return tensor_batch_norm_train(n->s, x, p.gamma, p.beta, p.mean, p.var, eps, momentum);
}

static void fold_norm(struct net_walk *n, const char *conv, const char *bn, double eps, int channels)
{
    const struct weights *w = n->w;
    struct scope *s = weights_scope(n->folded);
    struct tensor *gamma = weights_get(w, NET_NAME("%s.weight", bn)), *beta = weights_get(w, NET_NAME("%s.bias", bn)),
                  *mean = weights_get(w, NET_NAME("%s.running_mean", bn)),
                  *var = weights_get(w, NET_NAME("%s.running_var", bn)),
                  *k = weights_get(w, NET_NAME("%s.weight", conv));
    struct tensor *g = tensor_div(s, gamma, tensor_sqrt(s, tensor_scale(s, var, 1, eps)));
    k = tensor_mul(s, k, tensor_reshape(s, g, 4, (int64_t[]){channels, 1, 1, 1}));
    struct tensor *b = tensor_sub(s, beta, tensor_mul(s, mean, g));
    if (scope_status(s, n->e) ||
        weights_set(n->folded, NET_NAME("%s.weight", conv), tensor_channels_last(s, k), n->e) ||
        weights_set(n->folded, NET_NAME("%s.bias", conv), b, n->e))
        n->failed = true;
}

struct tensor *net_conv_bn(struct net_walk *n, struct tensor *x, const char *conv, const char *bn, double eps,
                           struct conv c)
{
    c.no_bias = true;
    if (n->pass == NET_FOLD) {
        if (!n->failed)
            fold_norm(n, conv, bn, eps, c.out);
        return NULL;
    }
    if (n->pass == NET_RUN && n->mode.bn == NET_BN_FOLDED) {
        c.no_bias = false;
        return net_conv(n, x, conv, c);
    }
    struct tensor *y = convolve(n, x, kernel(n, conv, c), NULL, c);
    return normalise(n, y, bn, norm_params(n, bn, c.out), eps);
}

struct tensor *net_conv_bn_relu(struct net_walk *n, struct tensor *x, const char *name, struct conv c)
{
    return tensor_relu(n->s, net_conv_bn(n, x, NET_NAME("%s.conv", name), NET_NAME("%s.bn", name), NET_BN_EPS, c));
}
