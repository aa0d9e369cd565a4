/*
 * plan: one network, one input shape, ready to run. The captured graph owns its packed weights, so nothing of the model
 * is kept.
 */
#include "core/net/plan.h"

#include <stdlib.h>
#include <string.h>

#include "core/net/layers.h"

struct plan {
    const struct net_arch *arch;
    struct plan_shape shape;
    struct scope *scope; /* of the captured graph */
    struct capture *graph;
};

struct traced {
    const struct net_arch *arch;
    const struct weights *w;
    bool video;
};

static int forward(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    const struct traced *t = arg;
    struct net_mode folded = {.bn = NET_BN_FOLDED};
    BUG_ON(n_in != 1 || n_out != 1);
    struct tensor *x = tensor_channels_last(s, in[0]);
    out[0] = t->video ? net_video(t->arch, t->w, s, x, folded) : net_image(t->arch, t->w, s, x, folded);
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

int plan_new(struct model *m, struct plan_shape shape, struct plan **out, struct err *e)
{
    const struct net_arch *a = model_info(m)->arch;
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
    struct traced t = {.arch = a, .w = w, .video = shape.video};
    struct scope *s = scope_new(p->scope, scope_device(p->scope));
    int64_t dims[4] = {shape.frames, a->in_channels, shape.height, shape.width};
    struct tensor *example = s ? tensor_zeros(s, TENSOR_F32, 4, dims) : NULL;
    p->graph = example ? capture_new(p->scope, forward, &t, &example, 1, 1, e) : NULL;
    scope_free(s);
    if (!p->graph) {
        plan_free(p);
        return example ? err_wrap(e, "preparing %s", a->name) : err_set(e, ERR_NOMEM, "plan of %s", a->name);
    }
    *out = p;
    return 0;
}

void plan_free(struct plan *p)
{
    if (!p)
        return;
    capture_free(p->graph);
    scope_free(p->scope);
    free(p);
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
    tensor_read_f32(s, y, logits, (int64_t)sh.frames * sh.height * sh.width);
    int rc = scope_status(s, e);
    scope_free(s);
    return rc;
}
