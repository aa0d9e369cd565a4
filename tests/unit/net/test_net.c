/* The definitions: every way to run one network agrees with every other, and parameters are declared, made, checked and carried over
 * by name. Agreement with the published code is tests/golden's business. */
#include "tests/unit/check.h"

#include <math.h>

#include "core/base/rng.h"
#include "core/net/net.h"

static const struct tensor_device cpu = {.type = TENSOR_CPU};

struct bench { /* one architecture with weights whose batch norms do something */
    struct scope *s;
    struct weights *w;
    const struct net_arch *a;
};

static void perturb(struct bench *b, const struct net_param *p, struct rng *r)
{
    if (p->role == NET_WEIGHT && p->fill != NET_FILL_ZERO)
        return;
    int64_t n = 1;
    for (int i = 0; i < p->ndim; i++)
        n *= p->shape[i];
    float *v = malloc((size_t)n * sizeof(*v));
    for (int64_t i = 0; i < n; i++) {
        double noise = 0.1 * rng_normal(r);
        v[i] = (float)(p->role == NET_NORM_SCALE || p->role == NET_NORM_VAR ? 1 + fmin(fmax(noise, -0.5), 0.5) : noise);
    }
    assert_int_equal(weights_set(b->w, p->name, tensor_from(b->s, v, TENSOR_F32, p->ndim, p->shape), NULL), 0);
    free(v);
}

static struct bench make(const char *arch)
{
    struct err e;
    struct net_params p;
    struct rng r;
    struct bench b = {.s = scope_new(NULL, cpu), .a = net_arch_find(arch)};
    assert_non_null(b.a);
    b.w = weights_new(b.s);
    assert_int_equal(net_init(b.a, b.w, 7, &e), 0);
    assert_int_equal(net_params(b.a, &p, &e), 0);
    rng_seed(&r, 5);
    for (size_t i = 0; i < p.n; i++)
        perturb(&b, &p.v[i], &r);
    net_params_free(&p);
    return b;
}

static void drop(struct bench *b)
{
    weights_free(b->w);
    scope_free(b->s);
}

static struct tensor *noise(struct scope *s, int64_t n, int64_t c, int64_t h, int64_t w)
{
    tensor_seed(11);
    return tensor_randn(s, 1, 4, (int64_t[]){n, c, h, w});
}

static void assert_close(struct scope *s, struct tensor *a, struct tensor *b, double tolerance)
{
    struct err e;
    double worst = tensor_item(s, tensor_sum(s, tensor_abs(s, tensor_sub(s, a, b)))) / (double)tensor_numel(a);
    if (scope_status(s, &e))
        fail_msg("%s", e.msg);
    if (!(worst < tolerance))
        fail_msg("mean difference %g", worst);
}

static void assert_shape(const struct tensor *t, int64_t n, int64_t h, int64_t w)
{
    assert_int_equal(tensor_dim(t, 0), n);
    assert_int_equal(tensor_dim(t, 1), 1);
    assert_int_equal(tensor_dim(t, 2), h);
    assert_int_equal(tensor_dim(t, 3), w);
}

/* Folding changes nothing but rounding, at sizes that are not multiples of the stride too. */
static void check_fold(const char *arch, int64_t h, int64_t w)
{
    struct err e;
    struct bench b = make(arch);
    struct scope *s = scope_new(b.s, cpu);
    struct weights *folded = weights_new(s);
    assert_int_equal(net_fold(b.a, b.w, folded, &e), 0);
    assert_null(weights_get(folded, "backbone.decoder.conv1.bn.weight"));
    struct tensor *x = noise(s, 2, b.a->in_channels, h, w);
    struct tensor *plain = net_image(b.a, b.w, s, x, (struct net_mode){0});
    struct tensor *fast = net_image(b.a, folded, s, x, (struct net_mode){.bn = NET_BN_FOLDED});
    assert_shape(plain, 2, h, w);
    assert_close(s, plain, fast, 1e-4);
    weights_free(folded);
    scope_free(s);
    drop(&b);
}

static void test_fold(void **state)
{
    (void)state;
    check_fold("rcrnet-lite", 72, 88);
    check_fold("fgplg-lite", 33, 50);
    check_fold("rcrnet-r50", 40, 56);
}

/* Several clips stacked give what each gives alone; the temporal module must not leak between them. */
static void test_clips_are_independent(void **state)
{
    (void)state;
    struct bench b = make("rcrnet-lite");
    struct scope *s = scope_new(b.s, cpu);
    struct tensor *x = noise(s, 6, 3, 48, 64);
    struct tensor *both = net_video(b.a, b.w, s, x, (struct net_mode){.clip = 3});
    struct tensor *second = net_video(b.a, b.w, s, tensor_slice(s, x, 0, 3, 3), (struct net_mode){0});
    assert_shape(both, 6, 48, 64);
    assert_close(s, tensor_slice(s, both, 0, 3, 3), second, 1e-5);
    struct tensor *alone = net_image(b.a, b.w, s, x, (struct net_mode){0});
    double moved = tensor_item(s, tensor_mean(s, tensor_abs(s, tensor_sub(s, alone, both))));
    assert_true(moved > 1e-3); /* the module does something with these weights */
    assert_null(net_video(b.a, b.w, s, x, (struct net_mode){.clip = 4}));
    assert_int_equal(scope_status(s, NULL), ERR_INVALID);
    scope_free(s);
    drop(&b);
}

/* At initialisation the lite video net is the image net: its module is a residual that starts at zero. */
static void test_lite_starts_as_image_net(void **state)
{
    (void)state;
    struct err e;
    struct bench b = {.s = scope_new(NULL, cpu), .a = net_arch_find("rcrnet-lite")};
    b.w = weights_new(b.s);
    assert_int_equal(net_init(b.a, b.w, 1, &e), 0);
    struct tensor *x = noise(b.s, 2, 3, 64, 64);
    assert_close(b.s, net_video(b.a, b.w, b.s, x, (struct net_mode){0}),
                 net_image(b.a, b.w, b.s, x, (struct net_mode){0}), 1e-6);
    drop(&b);
}

/* A few steps of gradient descent lower the loss, and frozen norms keep their statistics while the others move. */
static void test_training(void **state)
{
    (void)state;
    struct err e;
    struct bench b = make("rcrnet-lite");
    const char *frozen = "backbone.effnet.bn0.running_mean", *live = "backbone.aspp.fire.conv.bn.running_mean";
    struct tensor *keep[2] = {tensor_scale(b.s, weights_get(b.w, frozen), 1, 0),
                              tensor_scale(b.s, weights_get(b.w, live), 1, 0)};
    struct tensor *leaf = weights_get(b.w, "backbone.decoder.conv2.weight");
    tensor_require_grad(b.s, leaf, true);
    struct optim_opts o = {.kind = OPTIM_ADAM, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    struct optim *opt = optim_new(b.s, &leaf, NULL, 1, o);
    double first = 0, last = 0;
    for (int i = 0; i < 6; i++) {
        struct scope *s = scope_new(b.s, cpu);
        scope_set_grad(s, true);
        struct tensor *x = noise(s, 2, 3, 64, 64), *goal = tensor_full(s, 1, 4, (int64_t[]){2, 1, 64, 64});
        struct net_mode mode = {.bn = NET_BN_BATCH, .frozen = "backbone.effnet."};
        struct tensor *loss = tensor_bce_with_logits(s, net_video(b.a, b.w, s, x, mode), goal, NULL);
        last = tensor_item(s, loss);
        first = i ? first : last;
        optim_zero_grad(opt);
        assert_int_equal(tensor_backward(s, loss), 0);
        assert_int_equal(optim_step(opt, 0, NULL, &e), 0);
        scope_free(s);
    }
    assert_true(last < 0.95 * first);
    assert_close(b.s, keep[0], weights_get(b.w, frozen), 1e-12);
    double moved = tensor_item(b.s, tensor_sum(b.s, tensor_abs(b.s, tensor_sub(b.s, keep[1], weights_get(b.w, live)))));
    assert_true(moved > 1e-3);
    optim_free(opt);
    drop(&b);
}

static double total(const struct net_arch *a, bool statistics)
{
    struct net_params p;
    double n = 0;
    assert_int_equal(net_params(a, &p, NULL), 0);
    for (size_t i = 0; i < p.n; i++) {
        double k = 1;
        for (int d = 0; d < p.v[i].ndim; d++)
            k *= (double)p.v[i].shape[d];
        if (statistics || p.v[i].role < NET_NORM_MEAN)
            n += k;
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(p.v[i].name, p.v[j].name);
    }
    net_params_free(&p);
    return n;
}

static void test_budgets(void **state)
{
    (void)state;
    /* as published: 51.74 and, without the unused classifier, 43.23 million trained values */
    assert_true(fabs(total(net_arch_find("rcrnet-r50"), false) - 51.74e6) < 0.01e6);
    assert_true(fabs(total(net_arch_find("fgplg-r50"), false) - 43.23e6) < 0.01e6);
    assert_true(total(net_arch_find("rcrnet-lite"), true) < 6e6);
    struct bench b = make("rcrnet-lite");
    double macs = 0;
    struct tensor *x = noise(b.s, 1, 3, 288, 288);
    assert_non_null(net_video(b.a, b.w, b.s, x, (struct net_mode){.macs = &macs}));
    print_message("rcrnet-lite: %.3f GMAC a frame at 288 x 288\n", macs / 1e9);
    assert_true(macs < 2.05e9);
    drop(&b);
}

static void test_init_is_reproducible(void **state)
{
    (void)state;
    struct err e;
    struct scope *s = scope_new(NULL, cpu);
    const struct net_arch *a = net_arch_find("fgplg-lite");
    const char *name = "backbone.aspp.fire.conv.conv.weight";
    struct weights *w[3] = {weights_new(s), weights_new(s), weights_new(s)};
    for (int i = 0; i < 3; i++)
        assert_int_equal(net_init(a, w[i], i == 2, &e), 0);
    assert_close(s, weights_get(w[0], name), weights_get(w[1], name), 1e-30);
    double d =
        tensor_item(s, tensor_mean(s, tensor_abs(s, tensor_sub(s, weights_get(w[0], name), weights_get(w[2], name)))));
    assert_true(d > 1e-3);
    struct tensor *mine = tensor_full(s, 3, 1, (int64_t[]){1});
    struct weights *half = weights_new(s);
    assert_int_equal(weights_set(half, "backbone.decoder.conv2.bias", mine, &e), 0);
    assert_int_equal(net_init(a, half, 0, &e), 0);
    assert_true(tensor_item(s, weights_get(half, "backbone.decoder.conv2.bias")) == 3); /* what is there stays */
    for (int i = 0; i < 3; i++)
        weights_free(w[i]);
    weights_free(half);
    scope_free(s);
}

/* An RGB network becomes the start of a 7-channel one: shared parts are copied, the extra stem channels keep their own values. */
static void test_transfer_widens_the_stem(void **state)
{
    (void)state;
    struct err e;
    size_t n;
    struct bench rgb = make("rcrnet-lite"), wide = make("fgplg-lite");
    const char *stem = "backbone.effnet.conv_stem.weight";
    struct scope *s = wide.s;
    struct tensor *before = weights_get(wide.w, stem);
    assert_int_equal(net_transfer(wide.a, wide.w, rgb.w, &n, &e), 0);
    struct tensor *after = weights_get(wide.w, stem);
    assert_close(s, tensor_slice(s, after, 1, 0, 3), weights_get(rgb.w, stem), 1e-30);
    assert_close(s, tensor_slice(s, after, 1, 3, 4), tensor_slice(s, before, 1, 3, 4), 1e-30);
    assert_int_equal(net_check(wide.a, wide.w, false, &e), 0);
    assert_false(net_is_backbone(wide.a, rgb.w));
    drop(&wide);
    drop(&rgb);
}

static void test_refusals(void **state)
{
    (void)state;
    struct err e;
    const struct net_arch *a;
    assert_int_equal(net_arch_parse("resnet", &a, &e), ERR_UNSUPPORTED);
    assert_non_null(strstr(e.msg, "fgplg-lite"));
    struct bench b = make("rcrnet-lite");
    struct scope *s = scope_new(b.s, cpu);
    assert_null(net_image(b.a, b.w, s, noise(s, 1, 7, 64, 64), (struct net_mode){0}));
    assert_int_equal(scope_status(s, &e), ERR_INVALID);
    scope_free(s);
    s = scope_new(b.s, cpu);
    assert_null(net_image(b.a, b.w, s, noise(s, 1, 3, 64, 31), (struct net_mode){0}));
    scope_free(s);
    s = scope_new(b.s, cpu);
    assert_null(net_video(net_arch_find("fgplg-lite"), b.w, s, noise(s, 1, 7, 64, 64), (struct net_mode){0}));
    assert_int_equal(scope_status(s, &e), ERR_UNSUPPORTED);
    scope_free(s);
    s = scope_new(b.s, cpu);
    assert_null(net_image(net_arch_find("rcrnet-r50"), b.w, s, noise(s, 1, 3, 64, 64), (struct net_mode){0}));
    assert_int_equal(scope_status(s, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "backbone.resnet.conv1.weight"));
    scope_free(s);
    drop(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fold),
        cmocka_unit_test(test_clips_are_independent),
        cmocka_unit_test(test_lite_starts_as_image_net),
        cmocka_unit_test(test_training),
        cmocka_unit_test(test_budgets),
        cmocka_unit_test(test_init_is_reproducible),
        cmocka_unit_test(test_transfer_widens_the_stem),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
