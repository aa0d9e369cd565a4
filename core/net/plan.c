/*
 * plan: one network, one input shape, ready to run, as three captured graphs: a frame's features, a clip's context, a frame's logits.
 * Frames pass one by one, so the activations of one frame are alive at a time, when a graph is made as when it runs. The graphs own
 * their packed weights; nothing of the model is kept.
 *
 * On the CPU the published decoder is not part of the last graph: that ends with the features at stride 4, and core/kernel/upconv
 * does the rest.
 */
#include "core/net/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/kernel/upconv.h"
#include "core/net/layers.h"

enum { CONTEXT, S16, S8, S4, FEATURES };
#define FRAMES_MAX 1024

struct plan {
    const struct net_arch *arch;
    struct plan_shape shape;
    struct scope *scope;                        /* of the graphs */
    struct capture *encode, *temporal, *finish; /* temporal: NULL for independent images */
    struct upconv *decoder;                     /* NULL: `finish` makes the logits */
};

/* ---- what is captured -------------------------------------------------------------------------------------------- */

struct traced {
    const struct plan *plan;
    const struct weights *w;
};

static struct net_walk walk_of(const struct traced *t, struct scope *s)
{
    struct net_mode folded = {.bn = NET_BN_FOLDED};
    return (struct net_walk){.s = s, .w = t->w, .mode = folded, .in_channels = t->plan->arch->in_channels};
}

/* (1,C,H,W) -> FEATURES tensors */
static int trace_encode(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    const struct traced *t = arg;
    struct net_walk n = walk_of(t, s);
    BUG_ON(n_in != 1 || n_out != FEATURES);
    struct features f = t->plan->arch->parts->encode(&n, tensor_channels_last(s, in[0]));
    out[CONTEXT] = f.context;
    out[S16] = f.s16;
    out[S8] = f.s8;
    out[S4] = f.s4;
    return scope_status(s, NULL);
}

/* (T,C,h,w) -> the same shape */
static int trace_temporal(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out,
                          int n_out)
{
    const struct traced *t = arg;
    struct net_walk n = walk_of(t, s);
    BUG_ON(n_in != 1 || n_out != 1);
    out[0] = t->plan->arch->parts->temporal(&n, tensor_channels_last(s, in[0]));
    return scope_status(s, NULL);
}

/* FEATURES tensors -> logits (1,1,H,W), or the refined features (1,h,w,C) for the factored decoder */
static int trace_finish(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    const struct traced *t = arg;
    const struct net_parts *parts = t->plan->arch->parts;
    struct net_walk n = walk_of(t, s);
    BUG_ON(n_in != FEATURES || n_out != 1);
    struct features f = {.context = in[CONTEXT], .s16 = in[S16], .s8 = in[S8], .s4 = in[S4]};
    struct tensor *x = parts->refine(&n, f);
    if (t->plan->decoder)
        out[0] = tensor_contiguous(s, tensor_permute(s, x, (int[]){0, 2, 3, 1}));
    else
        out[0] = parts->decode(&n, x, t->plan->shape.height, t->plan->shape.width);
    return scope_status(s, NULL);
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

/* The decoder's folded weights, packed for core/kernel/upconv. */
static int make_decoder(const struct weights *w, struct upconv **out, struct err *e)
{
    struct scope *s = scope_new(NULL, scope_device(weights_scope(w)));
    struct tensor *w1 = weights_get(w, "backbone.decoder.conv1.conv.weight");
    struct tensor *b1 = weights_get(w, "backbone.decoder.conv1.conv.bias");
    struct tensor *w2 = weights_get(w, "backbone.decoder.conv2.weight");
    struct tensor *b2 = weights_get(w, "backbone.decoder.conv2.bias");
    int64_t mid = tensor_dim(w1, 0), in = tensor_dim(w1, 1);
    float *v = malloc((size_t)(mid * in * 9 + 2 * mid + 1) * sizeof(*v));
    int rc = s && v ? 0 : err_set(e, ERR_NOMEM, "decoder");
    if (!rc) {
        float *vb1 = v + mid * in * 9, *vw2 = vb1 + mid, *vb2 = vw2 + mid;
        tensor_read_f32(s, w1, v, mid * in * 9);
        tensor_read_f32(s, b1, vb1, mid);
        tensor_read_f32(s, w2, vw2, mid);
        tensor_read_f32(s, b2, vb2, 1);
        rc = scope_status(s, e);
        rc = rc ? rc : upconv_new((int)in, (int)mid, v, vb1, vw2, *vb2, out, e);
    }
    free(v);
    scope_free(s);
    return rc;
}

/* Zeros of t's shape, but `frames` of them: an example to capture with. */
static struct tensor *example(struct scope *s, const struct tensor *t, int frames)
{
    int64_t dims[4] = {frames, tensor_dim(t, 1), tensor_dim(t, 2), tensor_dim(t, 3)};
    return tensor_zeros(s, TENSOR_F32, 4, dims);
}

static int capture_graphs(struct plan *p, const struct weights *w, struct err *e)
{
    struct traced t = {.plan = p, .w = w};
    struct scope *s = scope_new(p->scope, scope_device(p->scope));
    if (!s)
        return err_set(e, ERR_NOMEM, "plan");
    int64_t dims[4] = {1, p->arch->in_channels, p->shape.height, p->shape.width};
    struct tensor *x = tensor_zeros(s, TENSOR_F32, 4, dims), *f[FEATURES];
    p->encode = capture_new(p->scope, trace_encode, &t, &x, 1, FEATURES, e);
    int rc = p->encode ? capture_run(p->encode, s, &x, 1, f, FEATURES) : e->code;
    if (!rc && p->shape.video) {
        struct tensor *clip = example(s, f[CONTEXT], p->shape.frames);
        p->temporal = capture_new(p->scope, trace_temporal, &t, &clip, 1, 1, e);
        rc = p->temporal ? 0 : e->code;
    }
    if (!rc) {
        p->finish = capture_new(p->scope, trace_finish, &t, f, FEATURES, 1, e);
        rc = p->finish ? scope_status(s, e) : e->code;
    }
    scope_free(s);
    return rc;
}

static int check_shape(const struct net_arch *a, struct plan_shape s, struct err *e)
{
    if (s.video && !a->has_video)
        return err_set(e, ERR_UNSUPPORTED, "%s has no temporal module", a->name);
    if (s.frames < 1 || s.frames > FRAMES_MAX || s.height < 32 || s.width < 32 || s.height > 8192 || s.width > 8192)
        return err_set(e, ERR_INVALID, "%s cannot take %d frames of %d x %d; a side is 32 to 8192", a->name, s.frames,
                       s.width, s.height);
    return 0;
}

int plan_new(struct model *m, struct plan_shape shape, struct plan **out, struct err *e)
{
    const struct net_arch *a = model_info(m)->arch;
    struct err local;
    e = e ? e : &local;
    *out = NULL;
    int rc = check_shape(a, shape, e);
    if (rc)
        return rc;
    const struct weights *w = model_folded(m, e);
    if (!w)
        return e->code;
    struct plan *p = calloc(1, sizeof(*p));
    if (p)
        p->scope = scope_new(NULL, scope_device(weights_scope(w)));
    if (!p || !p->scope) {
        free(p);
        return err_set(e, ERR_NOMEM, "plan of %s", a->name);
    }
    p->arch = a;
    p->shape = shape;
    if (a->factored && scope_device(p->scope).type == TENSOR_CPU)
        rc = make_decoder(w, &p->decoder, e);
    if (!rc && (rc = capture_graphs(p, w, e)))
        err_wrap(e, "preparing %s", a->name);
    if (rc)
        plan_free(p);
    else
        *out = p;
    return rc;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    capture_free(p->encode);
    capture_free(p->temporal);
    capture_free(p->finish);
    upconv_free(p->decoder);
    scope_free(p->scope);
    free(p);
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static void encode(const struct plan *p, struct scope *s, float *in, struct tensor **f)
{
    int64_t dims[4] = {1, p->arch->in_channels, p->shape.height, p->shape.width};
    struct tensor *x = scope_device(s).type == TENSOR_CPU ? tensor_borrow(s, in, TENSOR_F32, 4, dims)
                                                          : tensor_from(s, in, TENSOR_F32, 4, dims);
    capture_run(p->encode, s, &x, 1, f, FEATURES);
}

/* Replaces the context of every frame by what the temporal module makes of all. */
static int mix(const struct plan *p, struct scope *s, struct tensor *(*f)[FEATURES])
{
    int n = p->shape.frames;
    struct tensor *context[FRAMES_MAX] = {0}, *mixed = NULL;
    for (int i = 0; i < n; i++)
        context[i] = f[i][CONTEXT];
    struct tensor *clip = tensor_concat(s, context, n, 0);
    capture_run(p->temporal, s, &clip, 1, &mixed, 1);
    for (int i = 0; i < n; i++)
        f[i][CONTEXT] = tensor_slice(s, mixed, 0, i, 1);
    return scope_status(s, NULL);
}

static int finish(const struct plan *p, struct scope *parent, struct tensor **f, float *logits, struct err *e)
{
    struct plan_shape sh = p->shape;
    struct scope *s = scope_new(parent, scope_device(parent));
    struct tensor *y = NULL;
    if (!s)
        return err_set(e, ERR_NOMEM, "running %s", p->arch->name);
    capture_run(p->finish, s, f, FEATURES, &y, 1);
    const float *x = p->decoder ? tensor_data(s, y) : NULL; /* (1,h,w,C) */
    if (!p->decoder)
        tensor_read_f32(s, y, logits, (int64_t)sh.height * sh.width);
    int rc = scope_status(s, e);
    if (!rc && p->decoder)
        rc = upconv_run(p->decoder, x, (int)tensor_dim(y, 2), (int)tensor_dim(y, 1), logits, sh.width, sh.height, e);
    scope_free(s);
    return rc;
}

static int run_clip(const struct plan *p, float *in, float *logits, struct err *e)
{
    size_t plane = (size_t)p->shape.height * (size_t)p->shape.width, n = (size_t)p->shape.frames;
    struct scope *s = scope_new(NULL, scope_device(p->scope));
    struct tensor *(*f)[FEATURES] = calloc(n, sizeof(*f));
    int rc = s && f ? 0 : err_set(e, ERR_NOMEM, "running %s", p->arch->name);
    for (size_t i = 0; !rc && i < n; i++) {
        encode(p, s, in + i * (size_t)p->arch->in_channels * plane, f[i]);
        rc = scope_status(s, e);
    }
    if (!rc && mix(p, s, f))
        rc = scope_status(s, e);
    for (size_t i = 0; !rc && i < n; i++)
        rc = finish(p, s, f[i], logits + i * plane, e);
    free(f);
    scope_free(s);
    return rc;
}

static int run_images(const struct plan *p, float *in, float *logits, struct err *e)
{
    size_t plane = (size_t)p->shape.height * (size_t)p->shape.width;
    int rc = 0;
    for (size_t i = 0; !rc && i < (size_t)p->shape.frames; i++) {
        struct scope *s = scope_new(NULL, scope_device(p->scope));
        struct tensor *f[FEATURES];
        if (!s)
            return err_set(e, ERR_NOMEM, "running %s", p->arch->name);
        encode(p, s, in + i * (size_t)p->arch->in_channels * plane, f);
        rc = scope_status(s, e);
        rc = rc ? rc : finish(p, s, f, logits + i * plane, e);
        scope_free(s);
    }
    return rc;
}

int plan_run(struct plan *p, float *in, float *logits, struct err *e)
{
    return p->temporal ? run_clip(p, in, logits, e) : run_images(p, in, logits, e);
}
