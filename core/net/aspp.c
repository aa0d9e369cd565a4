/*
 * Atrous spatial pyramid pooling (Chen et al., "Rethinking Atrous Convolution", 2017): context at several scales from
 * parallel dilated convolutions and a global average, merged by one 3x3 convolution. Concatenation order is the
 * published one: image pool first.
 */
#include "core/net/layers.h"

#define BRANCHES 4 /* one 1x1, three dilated 3x3 */

/* Broadcasts (N,C,1,1) over the plane of `like`. */
static struct tensor *spread(struct net_walk *n, struct tensor *x, struct tensor *like)
{
    int64_t shape[4] = {tensor_dim(x, 0), tensor_dim(x, 1), tensor_dim(like, 2), tensor_dim(like, 3)};
    return tensor_expand(n->s, x, 4, shape);
}

struct tensor *aspp(struct net_walk *n, struct tensor *x, const char *name)
{
    static const int dilation[BRANCHES] = {1, 6, 12, 18};
    struct scope *s = n->s;
    struct tensor *part[1 + BRANCHES]; /* (N,256,h,w) each */
    struct tensor *pool = net_conv_bn_relu(n, tensor_global_avg_pool(s, x), NET_NAME("%s.imagepool.conv", name),
                                           (struct conv){.in = 2048, .out = 256, .k = 1});
    part[0] = spread(n, pool, x);
    for (int i = 0; i < BRANCHES; i++)
        part[1 + i] = net_conv_bn_relu(n, x, NET_NAME("%s.stages.c%d", name, i),
                                       (struct conv){.in = 2048, .out = 256, .k = i ? 3 : 1, .dilation = dilation[i]});
    x = tensor_concat(s, part, 1 + BRANCHES, 1); /* (N,1280,h,w) */
    x = net_conv_bn_relu(n, x, NET_NAME("%s.fire.conv", name), (struct conv){.in = 1280, .out = 256, .k = 3});
    return n->mode.no_dropout ? x : tensor_dropout2d(s, x, 0.1);
}

/*
 * The same for a narrow backbone: a 1x1 reduction first, and depthwise-separable dilated branches. Rates suit planes of
 * 16 to 20 cells. The image pool has no batch norm, whose statistics over one value per image are useless for small
 * batches.
 */
struct tensor *aspp_lite(struct net_walk *n, struct tensor *x, const char *name)
{
    static const int dilation[BRANCHES] = {1, 4, 8, 12};
    enum { IN = 320, MID = 128, PART = 64, OUT = 96 };
    struct scope *s = n->s;
    struct tensor *part[1 + BRANCHES]; /* (N,PART,h,w) each */
    x = net_conv_bn_relu(n, x, NET_NAME("%s.reduce", name), (struct conv){.in = IN, .out = MID, .k = 1});
    struct tensor *pool = net_conv(n, tensor_global_avg_pool(s, x), NET_NAME("%s.imagepool.conv", name),
                                   (struct conv){.in = MID, .out = PART, .k = 1});
    part[0] = spread(n, tensor_relu(s, pool), x);
    part[1] = net_conv_bn_relu(n, x, NET_NAME("%s.stages.c0", name), (struct conv){.in = MID, .out = PART, .k = 1});
    for (int i = 1; i < BRANCHES; i++) {
        struct tensor *y =
            net_conv_bn_relu(n, x, NET_NAME("%s.stages.c%d.depthwise", name, i),
                             (struct conv){.in = MID, .out = MID, .k = 3, .dilation = dilation[i], .groups = MID});
        part[1 + i] = net_conv_bn_relu(n, y, NET_NAME("%s.stages.c%d.pointwise", name, i),
                                       (struct conv){.in = MID, .out = PART, .k = 1});
    }
    x = tensor_concat(s, part, 1 + BRANCHES, 1);
    x = net_conv_bn_relu(n, x, NET_NAME("%s.fire.conv", name),
                         (struct conv){.in = (1 + BRANCHES) * PART, .out = OUT, .k = 3});
    return n->mode.no_dropout ? x : tensor_dropout2d(s, x, 0.1);
}
