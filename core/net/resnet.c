/*
 * ResNet-50 (He et al., CVPR 2016) as torchvision lays it out, the stride on the 3x3 convolution, output stride 16:
 * layer4 keeps its resolution and dilates by 2 in all three blocks.
 */
#include "core/net/layers.h"

struct tensor *net_bottleneck(struct net_walk *n, struct tensor *x, const char *name, struct bottleneck b)
{
    struct tensor *y = net_conv_bn(n, x, NET_NAME("%s.conv1", name), NET_NAME("%s.bn1", name), NET_BN_EPS,
                                   (struct conv){.in = b.in, .out = b.mid, .k = 1});
    y = net_conv_bn(n, tensor_relu(n->s, y), NET_NAME("%s.conv2", name), NET_NAME("%s.bn2", name), NET_BN_EPS,
                    (struct conv){.in = b.mid, .out = b.mid, .k = 3, .stride = b.stride, .dilation = b.dilation});
    y = net_conv_bn(n, tensor_relu(n->s, y), NET_NAME("%s.conv3", name), NET_NAME("%s.bn3", name), NET_BN_EPS,
                    (struct conv){.in = b.mid, .out = b.out, .k = 1});
    if (b.shortcut)
        x = net_conv_bn(n, x, NET_NAME("%s.downsample.0", name), NET_NAME("%s.downsample.1", name), NET_BN_EPS,
                        (struct conv){.in = b.in, .out = b.out, .k = 1, .stride = b.stride});
    return tensor_relu(n->s, tensor_add(n->s, y, x));
}

struct stage {
    int blocks, mid, stride, dilation;
};

static struct tensor *stage(struct net_walk *n, struct tensor *x, const char *name, int in, struct stage st)
{
    for (int i = 0; i < st.blocks; i++) {
        struct bottleneck b = {.in = i ? 4 * st.mid : in,
                               .mid = st.mid,
                               .out = 4 * st.mid,
                               .stride = i ? 1 : st.stride,
                               .dilation = st.dilation,
                               .shortcut = i == 0};
        x = net_bottleneck(n, x, NET_NAME("%s.%d", name, i), b);
    }
    return x;
}

struct pyramid resnet50(struct net_walk *n, struct tensor *x, const char *name)
{
    struct scope *s = n->s;
    struct pyramid p;
    x = net_conv_bn(n, x, NET_NAME("%s.conv1", name), NET_NAME("%s.bn1", name), NET_BN_EPS,
                    (struct conv){.in = n->in_channels, .out = 64, .k = 7, .stride = 2});
    x = tensor_max_pool(s, tensor_relu(s, x), 3, 2, 1);                                       /* (N,64,H/4,W/4) */
    p.s4 = stage(n, x, NET_NAME("%s.layer1", name), 64, (struct stage){3, 64, 1, 1});         /* (N,256,H/4,W/4) */
    p.s8 = stage(n, p.s4, NET_NAME("%s.layer2", name), 256, (struct stage){4, 128, 2, 1});    /* (N,512,H/8,W/8) */
    p.s16 = stage(n, p.s8, NET_NAME("%s.layer3", name), 512, (struct stage){6, 256, 2, 1});   /* (N,1024,H/16,W/16) */
    p.top = stage(n, p.s16, NET_NAME("%s.layer4", name), 1024, (struct stage){3, 512, 1, 2}); /* (N,2048,H/16,W/16) */
    return p;
}
