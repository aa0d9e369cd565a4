/*
 * plan: one network, one input shape, ready to run. The captured graph owns its packed weights, so nothing of the model
 * is kept.
 */
#include "core/net/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/kernel/upconv.h"
#include "core/net/layers.h"

struct plan {
    const struct net_arch *arch;
    struct plan_shape shape;
    struct scope *scope; /* of the captured graph */
    struct capture *graph;
    struct upconv *decoder; /* NULL: the graph makes the logits */
};

struct traced {
    const struct net_arch *arch;
    const struct weights *w;
    bool video, trunk;
};

static int forward(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    const struct traced *t = arg;
    struct net_mode folded = {.bn = NET_BN_FOLDED};
    BUG_ON(n_in != 1 || n_out != 1);
    struct tensor *x = tensor_channels_last(s, in[0]);
    if (t->trunk) {
        struct tensor *y = net_trunk(t->arch, t->w, s, x, t->video, folded); /* (N,C,h,w) -> (N,h,w,C) */
        out[0] = tensor_contiguous(s, tensor_permute(s, y, (int[]){0, 2, 3, 1}));
    } else {
        out[0] = t->video ? net_video(t->arch, t->w, s, x, folded) : net_image(t->arch, t->w, s, x, folded);
    }
    return scope_status(s, NULL);
}

static int check_shape(const struct net_arch *a, struct plan_shape s, struct err *e)
{
    if (s.video && !a->has_video)
        return err_set(e, ERR_UNSUPPORTED, "%s has no temporal module", a->name);
    if (s.frames < 1 || s.frames > 1024 || s.height < 32 || s.width < 32 || s.height > 8192 || s.width > 8192)
        return err_set(e, ERR_INVALID, "%s cannot take %d frames of %d x %d; a side is 32 to 8192", a->name, s.frames,
                       s.width, s.height);
    return 0;
}

/* The decoder's folded weights, packed for core/kernel/upconv. */
static int make_decoder(const struct weights *w, struct upconv **out, struct err *e)
{
    struct scope *s = scope_new(NULL, scope_device(weights_scope(w)));
    struct tensor *w1 = weights_get(w, "backbone.decoder.conv1.conv.weight");
    struct tensor *b1 = weights_get(w, "backbone.decoder.conv1.conv.bias");
    struct tensor *w2 = weights_get(w, "backbone.decoder.conv2.weight"),
                  *b2 = weights_get(w, "backbone.decoder.conv2.bias");
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

static int capture_graph(struct plan *p, const struct weights *w, struct err *e)
{
    struct plan_shape sh = p->shape;
    struct traced t = {.arch = p->arch, .w = w, .video = sh.video, .trunk = p->decoder != NULL};
    struct scope *s = scope_new(p->scope, scope_device(p->scope));
    int64_t dims[4] = {sh.frames, p->arch->in_channels, sh.height, sh.width};
    struct tensor *example = s ? tensor_zeros(s, TENSOR_F32, 4, dims) : NULL;
    if (!example)
        err_set(e, ERR_NOMEM, "plan of %s", p->arch->name);
    else if (!(p->graph = capture_new(p->scope, forward, &t, &example, 1, 1, e)))
        err_wrap(e, "preparing %s", p->arch->name);
    scope_free(s);
    return p->graph ? 0 : e->code;
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
    if (!rc)
        rc = capture_graph(p, w, e);
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
    capture_free(p->graph);
    upconv_free(p->decoder);
    scope_free(p->scope);
    free(p);
}

static int decode(const struct plan *p, struct scope *s, struct tensor *y, float *logits, struct err *e)
{
    struct plan_shape sh = p->shape;
    const float *x = tensor_data(s, y); /* (N,h,w,C) */
    int rc = scope_status(s, e), h = (int)tensor_dim(y, 1), w = (int)tensor_dim(y, 2);
    size_t in = (size_t)h * (size_t)w * (size_t)tensor_dim(y, 3), out = (size_t)sh.height * (size_t)sh.width;
    for (size_t i = 0; !rc && i < (size_t)sh.frames; i++)
        rc = upconv_run(p->decoder, x + i * in, w, h, logits + i * out, sh.width, sh.height, e);
    return rc;
}

int plan_run(struct plan *p, float *in, float *logits, struct err *e)
{
    struct plan_shape sh = p->shape;
    int64_t dims[4] = {sh.frames, p->arch->in_channels, sh.height, sh.width};
    struct scope *s = scope_new(NULL, scope_device(p->scope));
    if (!s)
        return err_set(e, ERR_NOMEM, "running %s", p->arch->name);
    struct tensor *x = scope_device(s).type == TENSOR_CPU ? tensor_borrow(s, in, TENSOR_F32, 4, dims)
                                                          : tensor_from(s, in, TENSOR_F32, 4, dims);
    struct tensor *y = NULL;
    capture_run(p->graph, s, &x, 1, &y, 1);
    int rc;
    if (p->decoder) {
        rc = decode(p, s, y, logits, e);
    } else {
        tensor_read_f32(s, y, logits, (int64_t)sh.frames * sh.height * sh.width);
        rc = scope_status(s, e);
    }
    scope_free(s);
    return rc;
}
