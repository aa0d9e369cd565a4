/* Gradients against finite differences, optimisers against their formulas worked out step by step, their state in checkpoints. */
#include "tests/unit/tensor/tensor_check.h"

/* ---- gradients ----------------------------------------------------------------------------------------------------- */

typedef struct tensor *(*loss_fn)(struct scope *s, struct tensor *x);

/* A fixed, uneven weighting of all elements, so that no gradient hides behind symmetry. */
static struct tensor *weigh(struct scope *s, struct tensor *y)
{
    float w[256];
    int64_t n = tensor_numel(y);
    assert_true(n <= 256);
    for (int64_t i = 0; i < n; i++)
        w[i] = 0.3f + 0.1f * (float)((7 * i) % 11);
    struct tensor *flat = tensor_reshape(s, tensor_contiguous(s, y), SHAPE(-1));
    return tensor_sum(s, tensor_mul(s, flat, tensor_from(s, w, TENSOR_F32, SHAPE(n))));
}

static struct tensor *ramp(struct scope *s, int ndim, const int64_t *shape)
{
    float v[256];
    int64_t n = 1;
    for (int i = 0; i < ndim; i++)
        n *= shape[i];
    for (int64_t i = 0; i < n; i++)
        v[i] = sinf((float)(3 * i + 1));
    return tensor_from(s, v, TENSOR_F32, ndim, shape);
}

static struct tensor *loss_conv(struct scope *s, struct tensor *x)
{
    struct tensor *w = ramp(s, SHAPE(3, 2, 3, 3));
    return weigh(s, tensor_conv2d(s, x, w, ramp(s, SHAPE(3)), (struct conv_opts){.stride = 2, .pad = 1}));
}

static struct tensor *loss_conv_weight(struct scope *s, struct tensor *x) /* x as the kernel */
{
    return weigh(s, tensor_conv2d(s, ramp(s, SHAPE(1, 2, 6, 6)), x, NULL, (struct conv_opts){.pad = 2, .dilation = 2}));
}

static struct tensor *loss_norm(struct scope *s, struct tensor *x)
{
    struct tensor *y =
        tensor_batch_norm(s, x, VECTOR(s, 1, 2), VECTOR(s, 0, 1), VECTOR(s, 0.1f, 0.2f), VECTOR(s, 1, 3), 1e-3);
    return weigh(s, tensor_sigmoid(s, y));
}

static struct tensor *loss_norm_train(struct scope *s, struct tensor *x)
{
    return weigh(s, tensor_batch_norm_train(s, x, VECTOR(s, 1, 2), VECTOR(s, 0, 1), VECTOR(s, 0, 0), VECTOR(s, 1, 1),
                                            1e-3, 0.1));
}

static struct tensor *loss_smooth(struct scope *s, struct tensor *x)
{
    struct tensor *y = tensor_tanh(s, tensor_scale(s, x, 0.7, 0.1));
    y = tensor_add(s, tensor_exp(s, y), tensor_log(s, tensor_scale(s, tensor_mul(s, x, x), 1, 1)));
    return weigh(s, tensor_div(s, tensor_sqrt(s, y), tensor_scale(s, tensor_sigmoid(s, x), 1, 1)));
}

static struct tensor *loss_shapes(struct scope *s, struct tensor *x)
{
    struct tensor *y = tensor_permute(s, x, (int[]){0, 2, 3, 1});
    struct tensor *both[] = {tensor_flip(s, y, 1), tensor_slice(s, tensor_transpose(s, y, 1, 2), 1, 0, 4)};
    return weigh(s, tensor_concat(s, both, 2, 3));
}

static struct tensor *loss_resize(struct scope *s, struct tensor *x)
{
    struct tensor *up = tensor_resize(s, x, 7, 5, false), *pool = tensor_global_avg_pool(s, x);
    return tensor_add(s, weigh(s, up), weigh(s, tensor_mul(s, tensor_avg_pool(s, x, 2, 2, 0), pool)));
}

static struct tensor *loss_softmax(struct scope *s, struct tensor *x)
{
    struct tensor *y = tensor_softmax(s, tensor_reshape(s, x, SHAPE(4, 8)), 1);
    return weigh(s, tensor_matmul(s, y, tensor_sum_dims(s, tensor_transpose(s, y, 0, 1), (int[]){1}, 1)));
}

static struct tensor *loss_sample(struct scope *s, struct tensor *x)
{
    return weigh(s, tensor_sample(s, x, TENSOR(s, SHAPE(1, 1, 3, 2), 0.3f, 0.6f, 2.2f, 1.1f, -4, 9)));
}

static struct tensor *loss_bce(struct scope *s, struct tensor *x)
{
    struct tensor *target = tensor_sigmoid(s, ramp(s, SHAPE(1, 2, 4, 4)));
    return tensor_scale(s, tensor_bce_with_logits(s, x, target, tensor_abs(s, ramp(s, SHAPE(1, 2, 4, 4)))), 10, 0);
}

static double loss_at(struct scope *parent, loss_fn f, const float *x, int ndim, const int64_t *shape)
{
    struct scope *s = scope_new(parent, cpu);
    double y = tensor_item(s, f(s, tensor_from(s, x, TENSOR_F32, ndim, shape)));
    expect_ok(s, __LINE__);
    scope_free(s);
    return y;
}

static void check_gradient(struct scope *s, loss_fn f, int ndim, const int64_t *shape, int which)
{
    const float h = 1e-2f;
    float v[64], g[64];
    struct tensor *x = ramp(s, ndim, shape);
    int64_t n = tensor_numel(x);
    assert_true(n <= 64);
    tensor_read_f32(s, x, v, n);
    tensor_require_grad(s, x, true);
    scope_set_grad(s, true);
    tensor_backward(s, f(s, x));
    scope_set_grad(s, false);
    tensor_read_f32(s, tensor_grad(s, x), g, n);
    expect_ok(s, __LINE__);
    for (int64_t i = 0; i < n; i++) {
        float keep = v[i];
        v[i] = keep + h;
        double up = loss_at(s, f, v, ndim, shape);
        v[i] = keep - h;
        double down = loss_at(s, f, v, ndim, shape);
        v[i] = keep;
        double want = (up - down) / (2 * (double)h);
        if (fabs(want - (double)g[i]) > 2e-2 * (1 + fabs(want)))
            fail_msg("loss %d: gradient [%lld] is %g, differences give %g", which, (long long)i, (double)g[i], want);
    }
}

static void gradients_agree_with_differences(void **state)
{
    static const loss_fn of_image[] = {loss_conv,   loss_norm,    loss_norm_train, loss_smooth, loss_shapes,
                                       loss_resize, loss_softmax, loss_sample,     loss_bce};
    int n = (int)(sizeof of_image / sizeof *of_image);
    for (int i = 0; i < n; i++)
        check_gradient(*state, of_image[i], SHAPE(1, 2, 4, 4), i);
    check_gradient(*state, loss_conv_weight, SHAPE(3, 2, 3, 3), n);
}

static void gradients_accumulate_and_stop(void **state)
{
    struct scope *s = *state;
    struct tensor *w = VECTOR(s, 2, 3);
    assert_null(tensor_grad(s, w));
    expect_ok(s, __LINE__); /* having none is no failure */
    tensor_require_grad(s, w, true);
    tensor_backward(s, tensor_sum(s, tensor_mul(s, w, w))); /* grad mode is off: nothing was recorded */
    assert_int_equal(scope_status(s, NULL), ERR_INVALID);
    struct scope *t = scope_new(NULL, cpu);
    scope_set_grad(t, true);
    for (int i = 0; i < 2; i++)
        tensor_backward(t, tensor_sum(t, tensor_mul(t, w, w)));
    EXPECT(t, tensor_grad(t, w), 8, 12);
    tensor_backward(t, tensor_sum(t, tensor_mul(t, w, tensor_detach(t, w))));
    EXPECT(t, tensor_grad(t, w), 10, 15);
    assert_int_equal(tensor_backward(t, w), ERR_INVALID); /* not a scalar */
    scope_free(t);
}

static void copies_and_averages_record_nothing(void **state)
{
    struct scope *s = *state;
    scope_set_grad(s, true);
    struct tensor *w = VECTOR(s, 1, 2), *x = VECTOR(s, 5, 6);
    tensor_require_grad(s, w, true);
    assert_int_equal(tensor_lerp_into(s, w, x, 0.75), 0);
    EXPECT(s, w, 2, 3);
    assert_int_equal(tensor_copy_into(s, w, x), 0);
    EXPECT(s, w, 5, 6);
    tensor_backward(s, tensor_sum(s, w)); /* w is still a leaf */
    EXPECT(s, tensor_grad(s, w), 1, 1);
    assert_int_equal(tensor_copy_into(s, w, VECTOR(s, 1)), ERR_INVALID);
}

/* ---- optimisers ---------------------------------------------------------------------------------------------------- */

/* Leaves w with exactly gradient g. */
static void give_gradient(struct scope *parent, struct optim *o, struct tensor *w, float g)
{
    struct scope *s = scope_new(parent, cpu);
    optim_zero_grad(o);
    scope_set_grad(s, true);
    tensor_backward(s, tensor_sum(s, tensor_scale(s, w, (double)g, 0)));
    expect_ok(s, __LINE__);
    scope_free(s);
}

static const float gradients[] = {0.5f, -2, 0.25f, 1};
enum { STEPS = 4 };

/* Runs STEPS steps from w = 1.5 and returns the weight after each. */
static void run_optimiser(struct scope *s, struct optim_opts o, double lr_scale, double *out)
{
    struct err e = {0};
    struct tensor *w = VECTOR(s, 1.5f);
    tensor_require_grad(s, w, true);
    struct optim *opt = optim_new(s, &w, &lr_scale, 1, o);
    assert_non_null(opt);
    for (int i = 0; i < STEPS; i++) {
        give_gradient(s, opt, w, gradients[i]);
        assert_int_equal(optim_step(opt, 0, NULL, &e), 0);
        out[i] = tensor_item(s, w);
    }
    assert_int_equal(optim_steps(opt), STEPS);
    optim_free(opt);
}

static void expect_series(const double *got, const double *want)
{
    for (int i = 0; i < STEPS; i++)
        if (fabs(got[i] - want[i]) > 1e-5)
            fail_msg("after step %d: %.8g instead of %.8g", i + 1, got[i], want[i]);
}

static void sgd_follows_its_formula(void **state)
{
    struct optim_opts o = {.kind = OPTIM_SGD, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.01};
    double got[STEPS], want[STEPS], w = 1.5, b = 0;
    for (int i = 0; i < STEPS; i++) {
        b = 0.9 * b + (double)gradients[i] + 0.01 * w;
        w -= 0.1 * 0.5 * b;
        want[i] = w;
    }
    run_optimiser(*state, o, 0.5, got);
    expect_series(got, want);
    o.momentum = o.weight_decay = 0;
    run_optimiser(*state, o, 1, got);
    expect_series(got, (double[]){1.45, 1.65, 1.625, 1.525});
}

static void adam_follows_its_formula(void **state)
{
    struct optim_opts o = {
        .kind = OPTIM_ADAM, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.99, .eps = 1e-3, .weight_decay = 0.1};
    for (int decoupled = 0; decoupled < 2; decoupled++) {
        double got[STEPS], want[STEPS], w = 1.5, m = 0, v = 0;
        for (int i = 0; i < STEPS; i++) {
            double g = (double)gradients[i] + (decoupled ? 0 : 0.1 * w);
            if (decoupled)
                w -= 0.1 * 0.1 * w;
            m = 0.9 * m + 0.1 * g;
            v = 0.99 * v + 0.01 * g * g;
            w -= 0.1 * (m / (1 - pow(0.9, i + 1))) / (sqrt(v / (1 - pow(0.99, i + 1))) + 1e-3);
            want[i] = w;
        }
        o.adamw = decoupled;
        run_optimiser(*state, o, 1, got);
        expect_series(got, want);
    }
}

static void clipping_scales_the_global_norm(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    double norm;
    struct tensor *w[] = {VECTOR(s, 0), VECTOR(s, 0), VECTOR(s, 7)}; /* gradients 3 and 4, and none */
    for (int i = 0; i < 3; i++)
        tensor_require_grad(s, w[i], true);
    struct optim *o = optim_new(s, w, NULL, 3, (struct optim_opts){.kind = OPTIM_SGD, .lr = 1});
    scope_set_grad(s, true);
    tensor_backward(s, tensor_sum(s, tensor_add(s, tensor_scale(s, w[0], 3, 0), tensor_scale(s, w[1], 4, 0))));
    assert_int_equal(optim_step(o, 1, &norm, &e), 0);
    assert_true(fabs(norm - 5) < 1e-6);
    EXPECT(s, w[0], -0.6f);
    EXPECT(s, w[1], -0.8f);
    EXPECT(s, w[2], 7);
    assert_int_equal(optim_step(o, 100, &norm, &e), 0); /* below the limit: the gradients as they are */
    EXPECT(s, w[0], -3.6f);
    optim_set_lr(o, 0.1);
    assert_int_equal(optim_step(o, 0, NULL, &e), 0);
    EXPECT(s, w[0], -3.9f);
    optim_free(o);
}

static void a_step_with_a_bad_gradient_is_refused(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct tensor *w = VECTOR(s, 1);
    tensor_require_grad(s, w, true);
    struct optim *o = optim_new(s, &w, NULL, 1, (struct optim_opts){.kind = OPTIM_ADAM, .lr = 1, .eps = 1e-8});
    give_gradient(s, o, w, NAN);
    assert_int_equal(optim_step(o, 1, NULL, &e), ERR_COMPUTE);
    assert_int_equal(optim_steps(o), 0);
    EXPECT(s, w, 1);
    give_gradient(s, o, w, INFINITY);
    assert_int_equal(optim_step(o, 0, NULL, &e), ERR_COMPUTE);
    EXPECT(s, w, 1);
    optim_free(o);
    assert_null(optim_new(s, (struct tensor *[]){NULL}, NULL, 1, (struct optim_opts){0}));
    assert_int_equal(scope_status(s, NULL), ERR_INVALID);
}

/* ---- state --------------------------------------------------------------------------------------------------------- */

struct saved {
    char name[8][32];
    float value[8];
    int n;
};

static int save_state(void *arg, const char *name, struct tensor *t, struct err *e)
{
    struct saved *all = arg;
    struct scope *s = scope_new(NULL, cpu);
    (void)e;
    snprintf(all->name[all->n], sizeof all->name[0], "%s", name);
    all->value[all->n++] = (float)tensor_item(s, t);
    scope_free(s);
    return 0;
}

static int load_state(void *arg, const char *name, struct tensor *t, struct err *e)
{
    const struct saved *all = arg;
    for (int i = 0; i < all->n; i++) {
        if (strcmp(all->name[i], name) != 0)
            continue;
        struct scope *s = scope_new(NULL, cpu);
        int rc = tensor_copy_into(s, t, VECTOR(s, all->value[i]));
        scope_free(s);
        return rc;
    }
    return err_set(e, ERR_NOTFOUND, "no state %s", name);
}

static void check_resuming(struct scope *s, struct optim_opts o, const char *const *names, int n)
{
    struct err e = {0};
    struct saved kept = {.n = 0};
    struct tensor *a = VECTOR(s, 1), *b = VECTOR(s, 1);
    tensor_require_grad(s, a, true);
    tensor_require_grad(s, b, true);
    struct optim *first = optim_new(s, &a, NULL, 1, o), *second = optim_new(s, &b, NULL, 1, o);
    for (int i = 0; i < 2; i++) {
        give_gradient(s, first, a, gradients[i]);
        optim_step(first, 0, NULL, &e);
    }
    assert_int_equal(optim_visit_state(first, s, save_state, &kept, &e), 0);
    assert_int_equal(kept.n, n);
    for (int i = 0; i < n; i++)
        assert_string_equal(kept.name[i], names[i]);
    assert_int_equal(optim_visit_state(second, s, load_state, &kept, &e), 0);
    optim_set_steps(second, optim_steps(first));
    tensor_copy_into(s, b, a);
    for (int i = 2; i < STEPS; i++) {
        give_gradient(s, first, a, gradients[i]);
        give_gradient(s, second, b, gradients[i]);
        optim_step(first, 0, NULL, &e);
        optim_step(second, 0, NULL, &e);
    }
    assert_true(tensor_item(s, a) == tensor_item(s, b));
    kept.n = 0;
    if (n)
        assert_int_equal(optim_visit_state(second, s, load_state, &kept, &e), ERR_NOTFOUND);
    optim_free(first);
    optim_free(second);
}

static void state_resumes_exactly(void **state)
{
    struct scope *s = *state;
    struct optim_opts adam = {.kind = OPTIM_ADAM, .lr = 0.1, .beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    check_resuming(s, adam, (const char *const[]){"adam.m.0", "adam.v.0"}, 2);
    struct optim_opts sgd = {.kind = OPTIM_SGD, .lr = 0.1, .momentum = 0.9};
    check_resuming(s, sgd, (const char *const[]){"sgd.momentum.0"}, 1);
    sgd.momentum = 0;
    check_resuming(s, sgd, NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(gradients_agree_with_differences),
        SCOPE_TEST(gradients_accumulate_and_stop),
        SCOPE_TEST(copies_and_averages_record_nothing),
        SCOPE_TEST(sgd_follows_its_formula),
        SCOPE_TEST(adam_follows_its_formula),
        SCOPE_TEST(clipping_scales_the_global_norm),
        SCOPE_TEST(a_step_with_a_bad_gradient_is_refused),
        SCOPE_TEST(state_resumes_exactly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
