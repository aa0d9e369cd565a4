/*
 * EfficientNet-Lite0 without its classifier, output stride 16: the last two stages keep their resolution and dilate
 * by 2. Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variant has ReLU6, no squeeze-and-excitation, and a
 * fixed stem.
 *
 * The published ImageNet weights were trained with TensorFlow's SAME padding, which at stride 2 pads one pixel less on
 * the left and top than on the right and bottom. Here padding is symmetric: away from the border that is the same
 * network on an image shifted by a few pixels, and a plain convolution is what every backend fuses.
 */
#include "core/net/layers.h"

#define BN_EPS 1e-3 /* TensorFlow's */

struct mbconv {
    int in, out, expand, k, stride, dilation;
};

/* Inverted residual: 1x1 expansion, depthwise convolution, linear 1x1 projection. */
static struct tensor *mbconv(struct net_walk *n, struct tensor *x, const char *name, struct mbconv b)
{
    struct scope *s = n->s;
    int mid = b.in * b.expand;
    struct tensor *y = x;
    if (b.expand > 1)
        y = tensor_relu6(s, net_conv_bn(n, y, NET_NAME("%s.expand_conv", name), NET_NAME("%s.bn0", name), BN_EPS,
                                        (struct conv){.in = b.in, .out = mid, .k = 1}));
    struct conv depthwise = {
        .in = mid, .out = mid, .k = b.k, .stride = b.stride, .dilation = b.dilation, .groups = mid};
    y = tensor_relu6(
        s, net_conv_bn(n, y, NET_NAME("%s.depthwise_conv", name), NET_NAME("%s.bn1", name), BN_EPS, depthwise));
    y = net_conv_bn(n, y, NET_NAME("%s.project_conv", name), NET_NAME("%s.bn2", name), BN_EPS,
                    (struct conv){.in = mid, .out = b.out, .k = 1, .fill = NET_FILL_LECUN});
    return b.in == b.out && b.stride == 1 ? tensor_add(s, y, x) : y;
}

static const struct {
    int expand, k, out, blocks, stride, dilation;
} stages[] = {
    {1, 3, 16, 1, 1, 1},  /* stride 2 */
    {6, 3, 24, 2, 2, 1},  /* 4 */
    {6, 5, 40, 2, 2, 1},  /* 8 */
    {6, 3, 80, 3, 2, 1},  /* 16 */
    {6, 5, 112, 3, 1, 1}, /* 16 */
    {6, 5, 192, 4, 1, 2}, /* 16, stride 2 in the classifier */
    {6, 3, 320, 1, 1, 2}, /* 16 */
};

struct pyramid effnet_lite0(struct net_walk *n, struct tensor *x, const char *name)
{
    struct tensor *out[sizeof(stages) / sizeof(stages[0])];
    x = tensor_relu6(n->s, net_conv_bn(n, x, NET_NAME("%s.conv_stem", name), NET_NAME("%s.bn0", name), BN_EPS,
                                       (struct conv){.in = n->in_channels, .out = 32, .k = 3, .stride = 2}));
    int in = 32, block = 0;
    for (size_t i = 0; i < sizeof(stages) / sizeof(stages[0]); i++) {
        for (int j = 0; j < stages[i].blocks; j++) {
            struct mbconv b = {.in = in,
                               .out = stages[i].out,
                               .expand = stages[i].expand,
                               .k = stages[i].k,
                               .stride = j ? 1 : stages[i].stride,
                               .dilation = stages[i].dilation};
            /* The block that would have had the stride still sees the old sampling. */
            if (j == 0 && stages[i].out == 192)
                b.dilation = 1;
            x = mbconv(n, x, NET_NAME("%s.blocks.%d", name, block++), b);
            in = b.out;
        }
        out[i] = x;
    }
    return (struct pyramid){.s4 = out[1], .s8 = out[2], .s16 = out[4], .top = out[6]};
}
