/* One plan for one square input; the channels are core/flow/fgplg_input's. */
#include "core/task/propagate_net.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/net/model.h"
#include "core/net/plan.h"
#include "core/task/propagate.h"

struct propagate_net {
    struct plan *plan; /* several threads may run it */
    bool own_plan;
    int px;
    enum fgplg_style style;
    struct fgplg_norm norm;
    float *in;     /* (7,px,px) */
    float *logits; /* (px,px) */
};

static int allocate(struct propagate_net *n, struct err *e)
{
    size_t area = (size_t)n->px * (size_t)n->px;
    n->in = malloc(FGPLG_CHANNELS * area * sizeof(float));
    n->logits = malloc(area * sizeof(float));
    return n->in && n->logits ? 0 : err_set(e, ERR_NOMEM, "label generator at %d px", n->px);
}

static void describe(struct propagate_net *n, const struct model_info *info, int net_px)
{
    n->style = strcmp(info->arch->name, "fgplg-lite") ? FGPLG_PLAIN : FGPLG_RELIABLE;
    bool cut_out = !net_px && n->style != FGPLG_PLAIN && info->input_px > PROPAGATE_NET_PX;
    n->px = net_px ? net_px : cut_out ? PROPAGATE_NET_PX : info->input_px;
    memcpy(n->norm.mean, info->mean, sizeof(n->norm.mean));
    memcpy(n->norm.std, info->std, sizeof(n->norm.std));
    n->own_plan = true;
}

int propagate_net_open(struct model *m, int net_px, struct propagate_net **out, struct err *e)
{
    const struct model_info *info = model_info(m);
    *out = NULL;
    if (info->arch->in_channels != FGPLG_CHANNELS)
        return err_set(e, ERR_INVALID, "model %s (%s) is not a label generator", info->name, info->arch->name);
    struct propagate_net *n = calloc(1, sizeof(*n));
    if (!n)
        return err_set(e, ERR_NOMEM, "label generator");
    describe(n, info, net_px);
    int rc = allocate(n, e);
    if (rc == 0)
        rc = plan_new(m, (struct plan_shape){.frames = 1, .height = n->px, .width = n->px}, &n->plan, e);
    if (rc) {
        propagate_net_close(n);
        return rc;
    }
    *out = n;
    return 0;
}

int propagate_net_share(const struct propagate_net *first, struct propagate_net **out, struct err *e)
{
    struct propagate_net *n = malloc(sizeof(*n));
    *out = NULL;
    if (!n)
        return err_set(e, ERR_NOMEM, "label generator");
    *n = *first;
    n->own_plan = false;
    int rc = allocate(n, e);
    if (rc) {
        propagate_net_close(n);
        return rc;
    }
    *out = n;
    return 0;
}

void propagate_net_close(struct propagate_net *n)
{
    if (!n)
        return;
    if (n->own_plan)
        plan_free(n->plan);
    free(n->in);
    free(n->logits);
    free(n);
}

int propagate_net_px(const struct propagate_net *n)
{
    return n->px;
}

int propagate_net_run(struct propagate_net *n, const struct flow_image *rgb, const struct fgplg_side sides[2], int w,
                      int h, float *prob, struct err *e)
{
    int rc = fgplg_input(rgb, sides, n->style, &n->norm, n->px, n->in, e);
    if (rc == 0)
        rc = plan_run(n->plan, n->in, n->logits, e);
    if (rc)
        return err_wrap(e, "label generator");
    for (size_t i = 0, area = (size_t)n->px * (size_t)n->px; i < area; i++)
        n->logits[i] = 1.0f / (1.0f + expf(-n->logits[i]));
    return plane_resample(n->logits, n->px, n->px, prob, w, h, e);
}
