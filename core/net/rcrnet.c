/*
 * RCRNet, the Refinement network with Context and Residual skips (Yan et al., ICCV 2019, section 3): a backbone, an
 * atrous pyramid, and three refinement steps from stride 16 to stride 4. With NER the pyramid's output first passes the
 * temporal module.
 *
 * The published decoder convolves at full resolution. The lite one convolves at stride 4 and upsamples one channel of
 * logits.
 */
#include "core/net/layers.h"

struct tensor *refinement(struct net_walk *n, struct tensor *up, struct tensor *skip, const char *name,
                          struct refinement r)
{
    struct scope *s = n->s;
    up = tensor_resize(s, up, tensor_dim(skip, 2), tensor_dim(skip, 3), false);
    struct bottleneck b = {
        .in = r.skip_in, .mid = r.skip_mid, .out = r.skip_out, .stride = 1, .dilation = 1, .shortcut = true};
    struct tensor *both[2] = {up, net_bottleneck(n, skip, NET_NAME("%s.skip", name), b)};
    return net_conv_bn_relu(n, tensor_concat(s, both, 2, 1), NET_NAME("%s.refine", name),
                            (struct conv){.in = r.up_in + r.skip_out, .out = r.out, .k = 3});
}

/* ---- published --------------------------------------------------------------------------------------------------- */

struct features rcrnet_encode(struct net_walk *n, struct tensor *x)
{
    struct pyramid p = resnet50(n, x, "backbone.resnet");
    return (struct features){.context = aspp(n, p.top, "backbone.aspp"), .s16 = p.s16, .s8 = p.s8, .s4 = p.s4};
}

struct tensor *rcrnet_temporal(struct net_walk *n, struct tensor *context)
{
    return ner(n, context, 256, NET_FILL_LECUN);
}

/* Up to stride 4: (N,128,H/4,W/4). */
struct tensor *rcrnet_refine(struct net_walk *n, struct features f)
{
    struct tensor *x = f.context;
    x = refinement(n, x, f.s16, "backbone.refinement1", (struct refinement){1024, 48, 96, 256, 128});
    x = refinement(n, x, f.s8, "backbone.refinement2", (struct refinement){512, 48, 96, 128, 128});
    return refinement(n, x, f.s4, "backbone.refinement3", (struct refinement){256, 48, 96, 128, 128});
}

struct tensor *rcrnet_decode(struct net_walk *n, struct tensor *x, int64_t h, int64_t w)
{
    x = tensor_resize(n->s, x, h, w, false); /* (N,128,H,W) */
    x = net_conv_bn_relu(n, x, "backbone.decoder.conv1", (struct conv){.in = 128, .out = 256, .k = 3});
    return net_conv(n, x, "backbone.decoder.conv2", (struct conv){.in = 256, .out = 1, .k = 1, .fill = NET_FILL_SMALL});
}

/* ---- lite -------------------------------------------------------------------------------------------------------- */

struct features lite_encode(struct net_walk *n, struct tensor *x)
{
    struct pyramid p = effnet_lite0(n, x, "backbone.effnet");
    return (struct features){.context = aspp_lite(n, p.top, "backbone.aspp"), .s16 = p.s16, .s8 = p.s8, .s4 = p.s4};
}

/* A residual that starts at zero: the video net begins as the image net it is trained from. */
struct tensor *lite_temporal(struct net_walk *n, struct tensor *context)
{
    return tensor_add(n->s, context, ner(n, context, 96, NET_FILL_ZERO));
}

struct tensor *lite_refine(struct net_walk *n, struct features f)
{
    struct tensor *x = f.context;
    x = refinement(n, x, f.s16, "backbone.refinement1", (struct refinement){112, 16, 32, 96, 64});
    x = refinement(n, x, f.s8, "backbone.refinement2", (struct refinement){40, 16, 32, 64, 48});
    return refinement(n, x, f.s4, "backbone.refinement3", (struct refinement){24, 16, 32, 48, 32});
}

struct tensor *lite_decode(struct net_walk *n, struct tensor *x, int64_t h, int64_t w)
{
    x = net_conv_bn_relu(n, x, "backbone.decoder.conv1", (struct conv){.in = 32, .out = 32, .k = 3});
    x = net_conv(n, x, "backbone.decoder.conv2", (struct conv){.in = 32, .out = 1, .k = 1, .fill = NET_FILL_SMALL});
    return tensor_resize(n->s, x, h, w, false); /* (N,1,H,W) */
}
