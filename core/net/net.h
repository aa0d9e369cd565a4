/*
 * The networks. One definition in C over core/tensor serves training (gradients, frozen or batch statistics) and
 * inference (batch norms folded into the convolutions). Sources: RCRNet and FGPLG are Yan et al., "Semi-Supervised
 * Video Salient Object Detection Using Pseudo-Labels", ICCV 2019; the lite pair keeps that design over
 * EfficientNet-Lite0 with narrow heads.
 *
 *   rcrnet-r50   RCRNet + NER, parameter names and arithmetic of the published code
 *   fgplg-r50    RCRNet with a 7-channel stem, no NER
 *   rcrnet-lite  the same parts over EfficientNet-Lite0; about 2 GMAC a frame at 288 x 288
 *   fgplg-lite   rcrnet-lite with a 7-channel stem, no NER
 *
 * Typical training:
 *     const struct net_arch *a = net_arch_find("rcrnet-lite");
 *     net_init(a, w, seed, &e);                                  // every parameter that w lacks
 *     logits = net_video(a, w, s, clip, (struct net_mode){.bn = NET_BN_BATCH, .frozen = "backbone.effnet.", .clip =
 * 4});
 */
#ifndef CORE_NET_NET_H
#define CORE_NET_NET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/tensor/tensor.h"
#include "core/tensor/weights.h"

#define NET_NAME_MAX 96

/* ---- architectures ----------------------------------------------------------------------------------------------- */

struct net_parts;

struct net_arch {
    const char *name;
    int in_channels;       /* 3: RGB; 7: RGB, two warped labels, two flow magnitudes */
    bool has_video;        /* has the temporal module (NER), so net_video is legal */
    int input_px;          /* default side of the square input */
    int clip_length;       /* frames of a window, 1 without NER */
    float mean[3], std[3]; /* RGB channels: (x / 255 - mean) / std; further channels are taken as they are */
    const char *backbone;  /* prefix of the parameters that ImageNet weights fill, "backbone.resnet." */
    bool factored; /* the decoder convolution follows a large upsampling: the detector runs it as core/kernel/upconv */
    const struct net_parts *parts; /* private */
};

/* NULL when there is none of that name. */
const struct net_arch *net_arch_find(const char *name);
size_t net_arch_count(void);
const struct net_arch *net_arch_at(size_t i);
/* As net_arch_find, ERR_UNSUPPORTED with the list of names when there is none. */
int net_arch_parse(const char *name, const struct net_arch **out, struct err *e);

/* ---- parameters -------------------------------------------------------------------------------------------------- */

enum net_role {
    NET_WEIGHT,     /* convolution kernel: decays */
    NET_BIAS,       /* convolution bias */
    NET_NORM_SCALE, /* batch-norm gamma */
    NET_NORM_SHIFT, /* batch-norm beta */
    NET_NORM_MEAN,  /* running statistics: no gradient */
    NET_NORM_VAR,
};

enum net_fill {
    NET_FILL_HE,    /* normal, std sqrt(2 / fan_out): before a ReLU */
    NET_FILL_LECUN, /* normal, std sqrt(1 / fan_in): gates, embeddings */
    NET_FILL_SMALL, /* normal, std 0.01: the layer that makes the logits */
    NET_FILL_ZERO,
    NET_FILL_ONE,
};

struct net_param {
    char name[NET_NAME_MAX];
    int ndim;
    int64_t shape[5];
    enum net_role role;
    enum net_fill fill;
};

struct net_params {
    struct net_param *v;
    size_t n, cap;
};

/* The parameters in the order in which the network uses them. Free with net_params_free. */
int net_params(const struct net_arch *a, struct net_params *out, struct err *e);
void net_params_free(struct net_params *p);

/* Makes every parameter that `w` lacks. Values depend only on the seed and the parameter's name. */
int net_init(const struct net_arch *a, struct weights *w, uint64_t seed, struct err *e);
/* ERR_INVALID names the first tensor that is missing, extra or of another shape. `resnet.fc.*` and
 * `*.num_batches_tracked` may be there; other extra ones only with `allow_extra`. */
int net_check(const struct net_arch *a, const struct weights *w, bool allow_extra, struct err *e);
/* Copies from `from` (a published checkpoint or an ImageNet backbone) what fits `a` into `to`; `*n_copied` counts.
 * Knows the names of this project, torchvision's ResNet-50 (conv1, layer1...), and efficientnet_lite_pytorch's
 * (_conv_stem, _blocks...). An RGB stem fills the first three channels of a 7-channel one. ERR_INVALID when a tensor of
 * a known name has another shape. */
int net_transfer(const struct net_arch *a, struct weights *to, const struct weights *from, size_t *n_copied,
                 struct err *e);

/* True when nothing of `w` has this project's names, but some of it is recognised as the backbone of `a`. */
bool net_is_backbone(const struct net_arch *a, const struct weights *w);

/* ---- forward ----------------------------------------------------------------------------------------------------- */

enum net_bn {
    NET_BN_FROZEN, /* running statistics; affine parameters may still be trained */
    NET_BN_BATCH,  /* batch statistics, running ones are updated */
    NET_BN_FOLDED, /* the weights come from net_fold: no batch norms are left */
};

struct net_mode {
    enum net_bn bn;
    double bn_momentum; /* NET_BN_BATCH: torch convention, 0 means 0.1 */
    const char *frozen; /* NET_BN_BATCH: norms whose name starts with this stay frozen; NULL for none */
    bool no_dropout;    /* with gradients too: for comparing them with another implementation's */
    int clip;           /* net_video: frames per clip when N stacks several clips; 0 means all of N is one clip */
    double *macs; /* when not NULL, the multiply-accumulates of this forward pass are added: a benchmark's arithmetic
                     floor */
};

/* Logits at the input's size; x (N,C,H,W) normalised float32, H and W >= 32 -> (N,1,H,W). NULL when s fails. */
struct tensor *net_image(const struct net_arch *a, const struct weights *w, struct scope *s, struct tensor *x,
                         struct net_mode mode);
/* As net_image with the temporal module over each clip of mode.clip consecutive frames. Fails s with ERR_UNSUPPORTED
 * without NER. */
struct tensor *net_video(const struct net_arch *a, const struct weights *w, struct scope *s, struct tensor *x,
                         struct net_mode mode);

/* ---- inference --------------------------------------------------------------------------------------------------- */

/* Fills `out` with the same network without batch norms, convolution kernels in channels_last; `w` stays as it is. */
int net_fold(const struct net_arch *a, const struct weights *w, struct weights *out, struct err *e);

#endif
