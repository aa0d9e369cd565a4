/*
 * Training state and its checkpoint: a safetensors file with the groups "model.", "average." and "optim.", and the
 * position in its metadata. Random numbers need no entry: every sample and every step seeds itself from its number.
 */
#include "core/train/state.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"

/* ---- making
 * ---------------------------------------------------------------------------------------------------------- */

/* Of one of our checkpoints only the averaged weights matter (the plain ones when no average was kept); others pass unchanged. */
static int unwrap_checkpoint(const struct weights *file, struct weights *out, struct err *e)
{
    bool ours = weights_meta(file, "position") != NULL;
    const char *groups[] = {"model.", "average."}; /* the later replaces the earlier */
    int rc = 0;
    for (size_t g = 0; g < (ours ? 2 : 1); g++) {
        size_t skip = ours ? strlen(groups[g]) : 0;
        for (size_t i = 0; !rc && i < weights_count(file); i++) {
            const char *name = weights_name(file, i);
            if (!strncmp(name, groups[g], skip))
                rc = weights_set(out, name + skip, weights_at(file, i), e);
        }
    }
    return rc;
}

/* The channels that an RGB stem did not fill start at zero: the first outputs are those of the RGB network. */
static int quiet_extra_channels(struct train_state *t, struct err *e)
{
    for (size_t i = 0; i < t->params.n; i++) {
        const struct net_param *p = &t->params.v[i];
        if (p->role != NET_WEIGHT || p->ndim != 4 || p->shape[1] != t->arch->in_channels || p->shape[1] <= 3)
            continue;
        struct tensor *w = weights_get(t->weights, p->name), *part[2];
        part[0] = tensor_slice(t->root, w, 1, 0, 3);
        part[1] = tensor_scale(t->root, tensor_slice(t->root, w, 1, 3, p->shape[1] - 3), 0, 0);
        tensor_copy_into(t->root, w, tensor_concat(t->root, part, 2, 1));
        return scope_status(t->root, e);
    }
    return 0;
}

static bool has_extra_channels(const struct weights *from, int channels)
{
    for (size_t i = 0; i < weights_count(from); i++)
        if (tensor_ndim(weights_at(from, i)) == 4 && tensor_dim(weights_at(from, i), 1) == channels)
            return true;
    return false;
}

static int load_init(struct train_state *t, const char *path, struct err *e)
{
    char inside[FS_PATH_MAX];
    size_t copied = 0;
    if (fs_is_dir(path)) {
        int rc = fs_join(inside, path, "model.safetensors", e);
        if (rc)
            return rc;
        path = inside;
    }
    struct scope *s = scope_new(t->root, scope_device(t->root));
    struct weights *file = s ? weights_new(s) : NULL, *from = s ? weights_new(s) : NULL;
    int rc = file && from ? weights_load(file, path, e) : err_set(e, ERR_NOMEM, "%s: out of memory", path);
    if (!rc)
        rc = unwrap_checkpoint(file, from, e);
    if (!rc)
        rc = net_transfer(t->arch, t->weights, from, &copied, e);
    if (!rc && copied == 0)
        rc = err_set(e, ERR_INVALID, "%s holds nothing that fits %s", path, t->arch->name);
    if (!rc && !has_extra_channels(from, t->arch->in_channels))
        rc = quiet_extra_channels(t, e);
    if (rc)
        err_wrap(e, "start from %s", path);
    weights_free(from);
    weights_free(file);
    scope_free(s);
    return rc;
}

static bool is_frozen(const char *name, const char *prefixes)
{
    while (prefixes && *prefixes) {
        size_t len = strcspn(prefixes, ",");
        if (len && !strncmp(name, prefixes, len))
            return true;
        prefixes += len + (prefixes[len] == ',');
    }
    return false;
}

static bool is_trained(const struct net_param *p, const struct train_state_opts *o)
{
    if (p->role == NET_NORM_MEAN || p->role == NET_NORM_VAR || is_frozen(p->name, o->freeze))
        return false;
    return !o->train_image_only || !strncmp(p->name, "backbone.", strlen("backbone."));
}

static int make_optim(struct train_state *t, const struct train_state_opts *o, struct err *e)
{
    int rc = 0;
    double *scale = calloc(t->params.n + 1, sizeof(*scale));
    t->leaves = calloc(t->params.n + 1, sizeof(*t->leaves));
    t->leaf_names = calloc(t->params.n + 1, sizeof(*t->leaf_names));
    if (!scale || !t->leaves || !t->leaf_names) {
        rc = err_set(e, ERR_NOMEM, "optimiser: out of memory");
        goto out;
    }
    for (size_t i = 0; i < t->params.n; i++) {
        const struct net_param *p = &t->params.v[i];
        if (!is_trained(p, o))
            continue;
        bool backbone = t->arch->backbone && !strncmp(p->name, t->arch->backbone, strlen(t->arch->backbone));
        t->leaves[t->n_leaves] = weights_get(t->weights, p->name);
        t->leaf_names[t->n_leaves] = p->name;
        scale[t->n_leaves] = backbone ? o->backbone_scale : 1;
        tensor_require_grad(t->root, t->leaves[t->n_leaves++], true);
    }
    t->optim = optim_new(t->root, t->leaves, scale, t->n_leaves, o->optim);
    if (!t->optim)
        rc = scope_status(t->root, e) ? scope_status(t->root, e) : err_set(e, ERR_NOMEM, "optimiser: out of memory");
out:
    free(scale);
    return rc;
}

static int copy_tensor(struct train_state *t, struct weights *to, const char *name, struct err *e)
{
    struct tensor *src = weights_get(t->weights, name);
    int64_t shape[TENSOR_MAX_DIMS];
    int nd = tensor_ndim(src);
    for (int i = 0; i < nd; i++)
        shape[i] = tensor_dim(src, i);
    struct tensor *dst = tensor_zeros(t->root, TENSOR_F32, nd, shape);
    tensor_copy_into(t->root, dst, src);
    int rc = scope_status(t->root, e);
    return rc ? rc : weights_set(to, name, dst, e);
}

static int make_doubles(struct train_state *t, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < t->params.n; i++) {
        const char *name = t->params.v[i].name;
        struct tensor *wide = tensor_to(t->root, weights_get(t->weights, name), TENSOR_F64);
        rc = scope_status(t->root, e);
        if (!rc)
            rc = weights_set(t->weights, name, wide, e);
    }
    return rc;
}

static int make_average(struct train_state *t, struct err *e)
{
    int rc = 0;
    t->average = weights_new(t->root);
    if (!t->average)
        return err_set(e, ERR_NOMEM, "average: out of memory");
    for (size_t i = 0; !rc && i < t->params.n; i++)
        rc = copy_tensor(t, t->average, t->params.v[i].name, e);
    return rc;
}

int train_state_init(struct train_state *t, const struct net_arch *arch, const struct train_state_opts *o,
                     struct err *e)
{
    *t = (struct train_state){.arch = arch, .ema = o->ema, .root = scope_new(NULL, o->device)};
    t->weights = t->root ? weights_new(t->root) : NULL;
    int rc = t->weights ? 0 : err_set(e, ERR_NOMEM, "training state: out of memory");
    if (!rc)
        rc = net_params(arch, &t->params, e);
    if (!rc)
        rc = net_init(arch, t->weights, o->seed, e);
    if (!rc && o->init)
        rc = load_init(t, o->init, e);
    if (!rc && o->doubles)
        rc = make_doubles(t, e);
    if (!rc && o->ema > 0)
        rc = make_average(t, e);
    if (!rc)
        rc = make_optim(t, o, e);
    if (rc)
        train_state_fini(t);
    return rc;
}

void train_state_fini(struct train_state *t)
{
    optim_free(t->optim);
    free(t->leaves);
    free(t->leaf_names);
    net_params_free(&t->params);
    weights_free(t->average);
    weights_free(t->weights);
    scope_free(t->root);
    *t = (struct train_state){0};
}

int train_state_average(struct train_state *t, struct err *e)
{
    if (!t->average)
        return 0;
    double n = (double)t->at.step, decay = (1 + n) / (10 + n);
    decay = decay < t->ema ? decay : t->ema;
    for (size_t i = 0; i < weights_count(t->average); i++)
        tensor_lerp_into(t->root, weights_at(t->average, i), weights_get(t->weights, weights_name(t->average, i)),
                         decay);
    return scope_status(t->root, e);
}

const struct weights *train_state_best(const struct train_state *t)
{
    return t->average ? t->average : t->weights;
}

/* ---- checkpoints
 * ----------------------------------------------------------------------------------------------------- */

/* Every tensor of the state under its checkpoint name. */
typedef int (*visit_fn)(void *arg, const char *name, struct tensor *t, struct err *e);

struct prefixed {
    visit_fn fn;
    void *arg;
};

static int visit_optim(void *arg, const char *name, struct tensor *t, struct err *e)
{
    const struct prefixed *p = arg;
    char full[NET_NAME_MAX + 16];
    snprintf(full, sizeof(full), "optim.%s", name);
    return p->fn(p->arg, full, t, e);
}

static int visit_weights(const char *group, const struct weights *w, visit_fn fn, void *arg, struct err *e)
{
    int rc = 0;
    for (size_t i = 0; w && !rc && i < weights_count(w); i++) {
        char full[NET_NAME_MAX + 16];
        snprintf(full, sizeof(full), "%s.%s", group, weights_name(w, i));
        rc = fn(arg, full, weights_at(w, i), e);
    }
    return rc;
}

static int visit_state(struct train_state *t, struct scope *s, visit_fn fn, void *arg, struct err *e)
{
    int rc = visit_weights("model", t->weights, fn, arg, e);
    if (!rc)
        rc = visit_weights("average", t->average, fn, arg, e);
    return rc ? rc : optim_visit_state(t->optim, s, visit_optim, &(struct prefixed){fn, arg}, e);
}

static int collect(void *arg, const char *name, struct tensor *t, struct err *e)
{
    return weights_set(arg, name, t, e);
}

struct restore {
    struct scope *s;
    const struct weights *from;
};

static int restore(void *arg, const char *name, struct tensor *t, struct err *e)
{
    const struct restore *r = arg;
    struct tensor *src = weights_get(r->from, name);
    if (!src || tensor_numel(src) != tensor_numel(t))
        return err_set(e, ERR_CONFLICT, "the checkpoint has %s %s", src ? "another shape of" : "no", name);
    tensor_copy_into(r->s, t, src);
    return scope_status(r->s, e);
}

static void format_position(const struct train_state *t, char *out, size_t size)
{
    const struct train_position *p = &t->at;
    snprintf(out, size,
             "step=%" PRId64 " epoch=%d best_epoch=%d best_s=%.17g best_mae=%.17g elapsed_ms=%.17g loss_sum=%.17g "
             "loss_n=%" PRId64 " fingerprint=%" PRIx64 " optim_steps=%" PRId64,
             p->step, p->epoch, p->best_epoch, p->best_s_measure, p->best_mae, p->elapsed_ms, p->loss_sum, p->loss_n,
             p->fingerprint, optim_steps(t->optim));
}

static int parse_position(const char *text, struct train_position *p, int64_t *optim_count, struct err *e)
{
    int step_fields = 0;
    char fingerprint[32] = "";
    long long step = 0, loss_n = 0, count = 0;
    if (text)
        step_fields = sscanf(text,
                             "step=%lld epoch=%d best_epoch=%d best_s=%lg best_mae=%lg elapsed_ms=%lg loss_sum=%lg "
                             "loss_n=%lld fingerprint=%31s optim_steps=%lld",
                             &step, &p->epoch, &p->best_epoch, &p->best_s_measure, &p->best_mae, &p->elapsed_ms,
                             &p->loss_sum, &loss_n, fingerprint, &count);
    if (step_fields != 10)
        return err_set(e, ERR_CORRUPT, "the checkpoint does not say where its run was");
    p->step = step;
    p->loss_n = loss_n;
    p->fingerprint = strtoull(fingerprint, NULL, 16);
    *optim_count = count;
    return 0;
}

int train_state_save(struct train_state *t, const char *path, struct err *e)
{
    char position[512];
    struct scope *s = scope_new(t->root, scope_device(t->root));
    struct weights *all = s ? weights_new(s) : NULL;
    int rc = all ? visit_state(t, s, collect, all, e) : err_set(e, ERR_NOMEM, "checkpoint: out of memory");
    format_position(t, position, sizeof(position));
    const char *meta[] = {"arch", t->arch->name, "position", position, NULL};
    if (!rc)
        rc = weights_save_safetensors(all, path, TENSOR_F32, meta, e);
    weights_free(all);
    scope_free(s);
    return rc;
}

int train_state_load(struct train_state *t, const char *path, struct err *e)
{
    struct train_position at;
    int64_t count = 0;
    struct scope *s = scope_new(t->root, scope_device(t->root));
    struct weights *from = s ? weights_new(s) : NULL;
    int rc = from ? weights_load_safetensors(from, path, true, e) : err_set(e, ERR_NOMEM, "checkpoint: out of memory");
    if (!rc)
        rc = parse_position(weights_meta(from, "position"), &at, &count, e);
    if (!rc && at.fingerprint != t->at.fingerprint)
        rc = err_set(e, ERR_CONFLICT, "the checkpoint belongs to a run with other data or options");
    if (!rc)
        rc = visit_state(t, s, restore, &(struct restore){s, from}, e);
    if (!rc) {
        optim_set_steps(t->optim, count);
        t->at = at;
    } else {
        err_wrap(e, "resume from %s", path);
    }
    weights_free(from);
    scope_free(s);
    return rc;
}
