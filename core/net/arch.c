/*
 * arch: the table of architectures, and what is done with a definition as a whole: list, initialise, check, transfer,
 * fold, run.
 */
#include "core/net/layers.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/rng.h"

#define IMAGENET_MEAN          \
    {                          \
        0.485F, 0.456F, 0.406F \
    }
#define IMAGENET_STD           \
    {                          \
        0.229F, 0.224F, 0.225F \
    }
/* EfficientNet-Lite was trained on (x - 127) / 128. */
#define LITE_MEAN                                \
    {                                            \
        127.0F / 255, 127.0F / 255, 127.0F / 255 \
    }
#define LITE_STD                                 \
    {                                            \
        128.0F / 255, 128.0F / 255, 128.0F / 255 \
    }

static const struct net_parts rcrnet = {rcrnet_encode, rcrnet_temporal, rcrnet_refine, rcrnet_decode};
static const struct net_parts lite = {lite_encode, lite_temporal, lite_refine, lite_decode};

static const struct net_arch archs[] = {
    {"rcrnet-r50", 3, true, 448, 4, IMAGENET_MEAN, IMAGENET_STD, "backbone.resnet.", true, &rcrnet},
    {"fgplg-r50", 7, false, 448, 1, IMAGENET_MEAN, IMAGENET_STD, "backbone.resnet.", true, &rcrnet},
    {"rcrnet-lite", 3, true, 288, 4, LITE_MEAN, LITE_STD, "backbone.effnet.", false, &lite},
    {"fgplg-lite", 7, false, 288, 1, LITE_MEAN, LITE_STD, "backbone.effnet.", false, &lite},
};

size_t net_arch_count(void)
{
    return sizeof(archs) / sizeof(archs[0]);
}

const struct net_arch *net_arch_at(size_t i)
{
    return &archs[i];
}

const struct net_arch *net_arch_find(const char *name)
{
    for (size_t i = 0; i < net_arch_count(); i++)
        if (strcmp(archs[i].name, name) == 0)
            return &archs[i];
    return NULL;
}

int net_arch_parse(const char *name, const struct net_arch **out, struct err *e)
{
    *out = net_arch_find(name);
    if (*out)
        return 0;
    char list[256] = "";
    for (size_t i = 0, at = 0; i < net_arch_count(); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at, "%s%s", i ? ", " : "", archs[i].name);
    return err_set(e, ERR_UNSUPPORTED, "no architecture '%.80s'; there are %s", name, list);
}

/* ---- walks ------------------------------------------------------------------------------------------------------- */

static struct tensor *forward(struct net_walk *n, const struct net_arch *a, struct tensor *x, bool video)
{
    n->in_channels = a->in_channels;
    struct features f = a->parts->encode(n, x);
    if (video)
        f.context = a->parts->temporal(n, f.context);
    return a->parts->decode(n, a->parts->refine(n, f), tensor_dim(x, 2), tensor_dim(x, 3));
}

/* Walks a whole definition (the video one where there is one) without activations. */
static int walk(const struct net_arch *a, struct net_walk *n)
{
    n->s = scope_new(NULL, (struct tensor_device){.type = TENSOR_CPU});
    if (!n->s)
        return err_set(n->e, ERR_NOMEM, "network %s", a->name);
    (void)forward(n, a, NULL, a->has_video);
    scope_free(n->s);
    return n->failed ? n->e->code : 0;
}

int net_params(const struct net_arch *a, struct net_params *out, struct err *e)
{
    struct err local;
    *out = (struct net_params){0};
    struct net_walk n = {.pass = NET_DECLARE, .params = out, .e = e ? e : &local};
    int rc = walk(a, &n);
    if (rc)
        net_params_free(out);
    return rc;
}

void net_params_free(struct net_params *p)
{
    free(p->v);
    *p = (struct net_params){0};
}

int net_fold(const struct net_arch *a, const struct weights *w, struct weights *out, struct err *e)
{
    struct err local;
    struct net_walk n = {.pass = NET_FOLD, .w = w, .folded = out, .e = e ? e : &local};
    return walk(a, &n);
}

static struct tensor *run(const struct net_arch *a, const struct weights *w, struct scope *s, struct tensor *x,
                          bool video, struct net_mode mode)
{
    struct net_walk n = {.s = s, .w = w, .mode = mode};
    if (tensor_ndim(x) == 4 && (tensor_dim(x, 1) != a->in_channels || tensor_dim(x, 2) < 32 || tensor_dim(x, 3) < 32)) {
        scope_fail(s, ERR_INVALID, "%s takes %d channels of at least 32 x 32; got %lld of %lld x %lld", a->name,
                   a->in_channels, (long long)tensor_dim(x, 1), (long long)tensor_dim(x, 2),
                   (long long)tensor_dim(x, 3));
        return NULL;
    }
    return forward(&n, a, x, video);
}

struct tensor *net_image(const struct net_arch *a, const struct weights *w, struct scope *s, struct tensor *x,
                         struct net_mode mode)
{
    return run(a, w, s, x, false, mode);
}

struct tensor *net_video(const struct net_arch *a, const struct weights *w, struct scope *s, struct tensor *x,
                         struct net_mode mode)
{
    if (!a->has_video) {
        scope_fail(s, ERR_UNSUPPORTED, "%s has no temporal module", a->name);
        return NULL;
    }
    return run(a, w, s, x, true, mode);
}

/* ---- initialisation ---------------------------------------------------------------------------------------------- */

static uint64_t fnv1a(const char *s)
{
    uint64_t h = 0xcbf29ce484222325U;
    for (; *s; s++)
        h = (h ^ (unsigned char)*s) * 0x100000001b3U;
    return h;
}

static int64_t numel(const struct net_param *p)
{
    int64_t n = 1;
    for (int i = 0; i < p->ndim; i++)
        n *= p->shape[i];
    return n;
}

/* Standard deviation of a kernel (O, I/groups, k, k). Depthwise kernels have a fan-out of k*k. */
static double fill_std(const struct net_param *p)
{
    double taps = p->ndim >= 4 ? (double)(p->shape[2] * p->shape[3]) : 1;
    bool depthwise = p->ndim >= 4 && p->shape[1] == 1;
    switch (p->fill) {
    case NET_FILL_HE:
        return sqrt(2 / (taps * (depthwise ? 1 : (double)p->shape[0])));
    case NET_FILL_LECUN:
        return sqrt(1 / (taps * (double)p->shape[1]));
    case NET_FILL_SMALL:
        return 0.01;
    case NET_FILL_ZERO:
    case NET_FILL_ONE:
        break;
    }
    return 0;
}

static void fill(const struct net_param *p, uint64_t seed, float *v, int64_t n)
{
    double std = fill_std(p);
    struct rng r;
    rng_seed(&r, seed ^ fnv1a(p->name));
    for (int64_t i = 0; i < n; i++)
        v[i] = p->fill == NET_FILL_ONE ? 1.0F : std > 0 ? (float)(std * rng_normal(&r)) : 0.0F;
}

static int init_one(const struct net_param *p, struct weights *w, uint64_t seed, struct err *e)
{
    int64_t n = numel(p);
    float *v = malloc((size_t)n * sizeof(*v));
    if (!v)
        return err_set(e, ERR_NOMEM, "parameter %s", p->name);
    fill(p, seed, v, n);
    struct tensor *t = tensor_from(weights_scope(w), v, TENSOR_F32, p->ndim, p->shape);
    free(v);
    int rc = scope_status(weights_scope(w), e);
    return rc ? rc : weights_set(w, p->name, t, e);
}

int net_init(const struct net_arch *a, struct weights *w, uint64_t seed, struct err *e)
{
    struct net_params p;
    int rc = net_params(a, &p, e);
    for (size_t i = 0; !rc && i < p.n; i++)
        if (!weights_get(w, p.v[i].name))
            rc = init_one(&p.v[i], w, seed, e);
    net_params_free(&p);
    return rc;
}

/* ---- checking ---------------------------------------------------------------------------------------------------- */

static void shape_text(char *out, size_t size, int ndim, const struct tensor *t, const int64_t *shape)
{
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < ndim && at < size; i++)
        at +=
            (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "", (long long)(t ? tensor_dim(t, i) : shape[i]));
}

static bool same_shape(const struct net_param *p, const struct tensor *t)
{
    if (tensor_ndim(t) != p->ndim)
        return false;
    for (int i = 0; i < p->ndim; i++)
        if (tensor_dim(t, i) != p->shape[i])
            return false;
    return true;
}

static int refuse_shape(const struct net_param *p, const struct tensor *t, const char *name, struct err *e)
{
    char is[96], want[96];
    shape_text(is, sizeof(is), tensor_ndim(t), t, NULL);
    shape_text(want, sizeof(want), p->ndim, NULL, p->shape);
    return err_set(e, ERR_INVALID, "%s has shape (%s), not (%s)", name, is, want);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct net_param *)a)->name, ((const struct net_param *)b)->name);
}

static struct net_param *find(const struct net_params *sorted, const char *name)
{
    struct net_param key;
    if ((size_t)snprintf(key.name, sizeof(key.name), "%s", name) >= sizeof(key.name))
        return NULL;
    return bsearch(&key, sorted->v, sorted->n, sizeof(key), by_name);
}

static bool ends_with(const char *s, const char *end)
{
    size_t n = strlen(s), m = strlen(end);
    return n >= m && strcmp(s + n - m, end) == 0;
}

/* What published checkpoints carry and no network uses. */
static bool unused(const char *name)
{
    return ends_with(name, ".num_batches_tracked") || strstr(name, "resnet.fc.") || strncmp(name, "flownet.", 8) == 0;
}

int net_check(const struct net_arch *a, const struct weights *w, bool allow_extra, struct err *e)
{
    struct net_params p;
    int rc = net_params(a, &p, e);
    if (rc)
        return rc;
    for (size_t i = 0; !rc && i < p.n; i++) {
        struct tensor *t = weights_get(w, p.v[i].name);
        if (!t)
            rc = err_set(e, ERR_INVALID, "not %s weights: %s is missing", a->name, p.v[i].name);
        else if (!same_shape(&p.v[i], t))
            rc = refuse_shape(&p.v[i], t, p.v[i].name, e);
        else if (tensor_dtype_of(t) != TENSOR_F32)
            rc = err_set(e, ERR_INVALID, "%s does not hold floating-point numbers", p.v[i].name);
    }
    qsort(p.v, p.n, sizeof(*p.v), by_name);
    for (size_t i = 0; !rc && !allow_extra && i < weights_count(w); i++)
        if (!unused(weights_name(w, i)) && !find(&p, weights_name(w, i)))
            rc = err_set(e, ERR_INVALID, "not %s weights: %.200s is not one of its tensors", a->name,
                         weights_name(w, i));
    net_params_free(&p);
    return rc;
}

/* ---- transfer ---------------------------------------------------------------------------------------------------- */

/* "_blocks.0._bn1.weight" -> "blocks.0.bn1.weight" */
static void strip_underscores(const char *name, char *out, size_t size)
{
    size_t n = 0;
    for (const char *c = name; *c && n + 1 < size; c++)
        if (*c != '_' || (c != name && c[-1] != '.'))
            out[n++] = *c;
    out[n] = 0;
}

/* The project's name of a tensor called `name` in some known file; NULL when the architecture has no such parameter. */
static struct net_param *recognise(const struct net_arch *a, const struct net_params *sorted, const char *name)
{
    char stripped[NET_NAME_MAX], full[2 * NET_NAME_MAX];
    struct net_param *p = find(sorted, name);
    if (p)
        return p;
    strip_underscores(name, stripped, sizeof(stripped));
    snprintf(full, sizeof(full), "%s%s", a->backbone, stripped);
    return find(sorted, full);
}

/* An RGB stem's kernel (O,3,k,k) put into the first channels of a wider one. */
static struct tensor *widen_stem(struct scope *s, struct tensor *rgb, struct tensor *wide)
{
    struct tensor *rest = tensor_slice(s, wide, 1, 3, tensor_dim(wide, 1) - 3);
    struct tensor *both[2] = {rgb, rest};
    return tensor_concat(s, both, 2, 1);
}

static bool is_rgb_stem(const struct net_arch *a, const struct net_param *p, const struct tensor *t)
{
    return a->in_channels > 3 && p->ndim == 4 && p->shape[1] == a->in_channels && tensor_ndim(t) == 4 &&
           tensor_dim(t, 1) == 3 && tensor_dim(t, 0) == p->shape[0] && tensor_dim(t, 2) == p->shape[2] &&
           tensor_dim(t, 3) == p->shape[3];
}

int net_transfer(const struct net_arch *a, struct weights *to, const struct weights *from, size_t *n_copied,
                 struct err *e)
{
    struct net_params p;
    int rc = net_params(a, &p, e);
    if (rc)
        return rc;
    qsort(p.v, p.n, sizeof(*p.v), by_name);
    struct scope *s = weights_scope(to);
    *n_copied = 0;
    for (size_t i = 0; !rc && i < weights_count(from); i++) {
        const char *name = weights_name(from, i);
        struct tensor *t = weights_at(from, i);
        struct net_param *into = unused(name) ? NULL : recognise(a, &p, name);
        if (!into)
            continue;
        if (is_rgb_stem(a, into, t) && weights_get(to, into->name))
            t = widen_stem(s, t, weights_get(to, into->name));
        if (!same_shape(into, t)) {
            rc = refuse_shape(into, t, name, e);
            break;
        }
        t = tensor_contiguous(s, t);
        rc = scope_status(s, e);
        rc = rc ? rc : weights_set(to, into->name, t, e);
        *n_copied += !rc;
    }
    net_params_free(&p);
    return rc;
}

bool net_is_backbone(const struct net_arch *a, const struct weights *w)
{
    struct net_params p;
    bool own = false, known = false;
    if (net_params(a, &p, NULL))
        return false;
    qsort(p.v, p.n, sizeof(*p.v), by_name);
    for (size_t i = 0; i < weights_count(w); i++) {
        own = own || find(&p, weights_name(w, i));
        known = known || recognise(a, &p, weights_name(w, i));
    }
    net_params_free(&p);
    return known && !own;
}
