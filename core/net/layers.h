/*
 * Private to core/net: what the network definitions are written in.
 *
 * A definition is walked for one of three purposes: to run it on a tensor, to declare its parameters, or to fold its
 * batch norms. Only net_param() knows which; in the last two the activations are NULL and every tensor operation is a
 * no-op on a scratch scope. So a definition must not branch on the value or shape of an activation.
 */
#ifndef CORE_NET_LAYERS_H
#define CORE_NET_LAYERS_H

#include "core/net/net.h"

enum net_pass { NET_RUN, NET_DECLARE, NET_FOLD };

struct net_walk {
    enum net_pass pass;
    struct scope *s;         /* of the activations; a scratch scope, failed by the first NULL, unless RUN */
    const struct weights *w; /* RUN, FOLD */
    struct net_mode mode;    /* RUN */
    int in_channels;
    struct net_params *params; /* DECLARE */
    struct weights *folded;    /* FOLD */
    struct err *e;
    bool failed; /* e is filled, or the scope failed: the rest of the walk does nothing */
};

/* "%s.conv1" into a caller's buffer: NET_NAME lives until the end of the enclosing block. */
#define NET_NAME(...) net_name((char[NET_NAME_MAX]){0}, __VA_ARGS__)
const char *net_name(char *buf, const char *fmt, ...) ERR_PRINTF(2, 3);

/* The parameter `name` of the given shape: the tensor when running, NULL otherwise. */
struct tensor *net_param(struct net_walk *n, const char *name, enum net_role role, enum net_fill fill, int ndim,
                         const int64_t *shape);

struct conv {
    int in, out, k;
    int stride, dilation, groups; /* 0 means 1; padding keeps the size at stride 1 */
    bool no_bias;
    bool conv3d; /* the published kernel is (out,in,1,1,1) */
    enum net_fill fill;
};

/* <name>.weight, <name>.bias */
struct tensor *net_conv(struct net_walk *n, struct tensor *x, const char *name, struct conv c);
/* Convolution without bias, then batch norm. */
struct tensor *net_conv_bn(struct net_walk *n, struct tensor *x, const char *conv, const char *bn, double eps,
                           struct conv c);
/* The published code's ConvBNReLU: <name>.conv, <name>.bn */
struct tensor *net_conv_bn_relu(struct net_walk *n, struct tensor *x, const char *name, struct conv c);

#define NET_BN_EPS 1e-5

/* What a frame is to the temporal module and the refinement. */
struct features {
    struct tensor *context;       /* of the atrous pyramid, stride 16; the temporal module replaces it */
    struct tensor *s16, *s8, *s4; /* of the backbone */
};

/* An architecture's definition, in the steps that inference runs apart: features frame by frame, context clip by clip. */
struct net_parts {
    struct features (*encode)(struct net_walk *n, struct tensor *x);
    struct tensor *(*temporal)(struct net_walk *n, struct tensor *context);
    struct tensor *(*refine)(struct net_walk *n, struct features f); /* (N,C,H/4,W/4) */
    struct tensor *(*decode)(struct net_walk *n, struct tensor *x, int64_t h, int64_t w);
};

/* ---- parts ------------------------------------------------------------------------------------------------------- */

struct pyramid {
    struct tensor *s4, *s8, *s16; /* features at strides 4, 8 and 16, for the skips */
    struct tensor *top;           /* the last features, stride 16 */
};

struct pyramid resnet50(struct net_walk *n, struct tensor *x, const char *name);
struct pyramid effnet_lite0(struct net_walk *n, struct tensor *x, const char *name);

/* torchvision's bottleneck; used by ResNet and by the skips. `shortcut`: has a 1x1 projection. */
struct bottleneck {
    int in, mid, out, stride, dilation;
    bool shortcut;
};
struct tensor *net_bottleneck(struct net_walk *n, struct tensor *x, const char *name, struct bottleneck b);

struct tensor *aspp(struct net_walk *n, struct tensor *x, const char *name);
struct tensor *aspp_lite(struct net_walk *n, struct tensor *x, const char *name);

struct refinement {
    int skip_in, skip_mid, skip_out, up_in, out;
};
/* Resizes `up` to the size of `skip` and merges both. */
struct tensor *refinement(struct net_walk *n, struct tensor *up, struct tensor *skip, const char *name,
                          struct refinement r);

/* Temporal module over clips of n->mode.clip frames; x (N,channels,h,w) -> the same shape. `last` fills the merging
 * convolution. */
struct tensor *ner(struct net_walk *n, struct tensor *x, int channels, enum net_fill last);

struct features rcrnet_encode(struct net_walk *n, struct tensor *x);
struct tensor *rcrnet_temporal(struct net_walk *n, struct tensor *context);
struct tensor *rcrnet_refine(struct net_walk *n, struct features f);
struct tensor *rcrnet_decode(struct net_walk *n, struct tensor *x, int64_t h, int64_t w);
struct features lite_encode(struct net_walk *n, struct tensor *x);
struct tensor *lite_temporal(struct net_walk *n, struct tensor *context);
struct tensor *lite_refine(struct net_walk *n, struct features f);
struct tensor *lite_decode(struct net_walk *n, struct tensor *x, int64_t h, int64_t w);

#endif
