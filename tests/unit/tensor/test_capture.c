/* Captured graphs against the eager run of the same function. */
#include "tests/unit/tensor/tensor_check.h"

#include <pthread.h>

#define TOLERANCE 1e-4

struct net {
    struct tensor *w[8], *gamma[8], *beta[8], *mean[8], *var[8];
};

/* Scaled so that the activations stay near 1: TOLERANCE is about rounding, not about a network that amplifies it. */
static void make_net(struct scope *s, struct net *n)
{
    tensor_seed(1);
    static const int64_t shapes[8][4] = {{24, 3, 3, 3},  {24, 1, 3, 3},  {24, 24, 1, 1}, {24, 24, 3, 3},
                                         {24, 24, 5, 5}, {16, 24, 1, 1}, {8, 48, 3, 3},  {1, 8, 1, 1}};
    for (int i = 0; i < 8; i++) {
        int64_t c = shapes[i][0];
        double fan_in = (double)(shapes[i][1] * shapes[i][2] * shapes[i][3]);
        n->w[i] = tensor_randn(s, 1 / sqrt(fan_in), 4, shapes[i]);
        n->gamma[i] = tensor_scale(s, tensor_abs(s, tensor_randn(s, 1, 1, &c)), 0.2, 0.9);
        n->beta[i] = tensor_randn(s, 0.5, 1, &c);
        n->mean[i] = tensor_randn(s, 0.2, 1, &c);
        n->var[i] = tensor_scale(s, tensor_abs(s, tensor_randn(s, 1, 1, &c)), 0.2, 0.9);
        tensor_require_grad(s, n->w[i], true); /* as in training: a capture takes the values */
    }
}

static struct tensor *conv_bn(struct scope *s, const struct net *n, int i, struct tensor *x, struct conv_opts o)
{
    x = tensor_conv2d(s, x, n->w[i], NULL, o);
    return tensor_batch_norm(s, x, n->gamma[i], n->beta[i], n->mean[i], n->var[i], 1e-5);
}

/* A network in small: strided, depthwise, dilated and grouped convolutions, a residual, pooling, attention, resizing, concat. */
static int forward(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    const struct net *n = arg;
    (void)n_in, (void)n_out;
    struct tensor *x = tensor_relu6(s, conv_bn(s, n, 0, in[0], (struct conv_opts){.stride = 2, .pad = 1}));
    int64_t h = tensor_dim(x, 2), w = tensor_dim(x, 3);
    struct tensor *low = x;
    x = tensor_relu6(s, conv_bn(s, n, 1, x, (struct conv_opts){.pad = 1, .groups = 24}));
    x = tensor_max_pool(s, conv_bn(s, n, 2, x, (struct conv_opts){0}), 3, 2, 1);
    struct tensor *y = tensor_relu(s, conv_bn(s, n, 3, x, (struct conv_opts){.pad = 2, .dilation = 2}));
    x = tensor_add(s, x, conv_bn(s, n, 4, y, (struct conv_opts){.pad = 2}));
    struct tensor *pooled = tensor_sigmoid(s, tensor_global_avg_pool(s, x));
    x = tensor_mul(s, x, pooled);
    struct tensor *flat = tensor_reshape(s, x, SHAPE(tensor_dim(x, 0), 24, -1));
    struct tensor *scores = tensor_matmul(s, tensor_transpose(s, flat, 1, 2), tensor_scale(s, flat, 0.05, 0));
    struct tensor *attention = tensor_softmax(s, scores, 2);
    flat = tensor_matmul(s, flat, attention);
    x = tensor_reshape(s, flat, SHAPE(tensor_dim(x, 0), 24, tensor_dim(x, 2), tensor_dim(x, 3)));
    struct tensor *pair[] = {low, tensor_resize(s, x, h, w, false)};
    x = tensor_tanh(s, conv_bn(s, n, 6, tensor_concat(s, pair, 2, 1), (struct conv_opts){.pad = 1}));
    out[0] = tensor_conv2d(s, x, n->w[7], n->beta[7], (struct conv_opts){0});
    out[1] = tensor_slice(s, x, 1, 2, 3);
    return 0;
}

static void compare_once(struct scope *s, struct capture *plan, struct net *n, int64_t h, int64_t w)
{
    struct scope *t = scope_new(s, cpu);
    struct tensor *x = tensor_randn(t, 1, SHAPE(2, 3, h, w)), *eager[2], *fast[2];
    forward(n, t, &x, 1, eager, 2);
    assert_int_equal(capture_run(plan, t, &x, 1, fast, 2), 0);
    for (int i = 0; i < 2; i++) {
        expect_shape(fast[i], tensor_ndim(eager[i]),
                     (int64_t[]){tensor_dim(eager[i], 0), tensor_dim(eager[i], 1), tensor_dim(eager[i], 2),
                                 tensor_dim(eager[i], 3)},
                     __LINE__);
        double worst = max_difference(t, eager[i], fast[i]);
        if (!(worst <= TOLERANCE))
            fail_msg("output %d at %lldx%lld differs by %g", i, (long long)h, (long long)w, worst);
    }
    scope_free(t);
}

static struct capture *plan_of(struct scope *s, struct net *n, int64_t h, int64_t w)
{
    struct err e = {0};
    struct scope *t = scope_new(s, cpu); /* the example need not live on */
    struct tensor *x = tensor_randn(t, 1, SHAPE(2, 3, h, w));
    struct capture *c = capture_new(t, forward, n, &x, 1, 2, &e);
    if (!c)
        fail_msg("%s", e.msg);
    scope_free(t);
    return c;
}

static void a_capture_equals_the_eager_run(void **state)
{
    static struct net n;
    static const int64_t sizes[][2] = {{32, 32}, {64, 96}, {33, 47}, {8, 8}};
    make_net(*state, &n);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct capture *c = plan_of(*state, &n, sizes[i][0], sizes[i][1]);
        for (int k = 0; k < 3; k++)
            compare_once(*state, c, &n, sizes[i][0], sizes[i][1]);
        capture_free(c);
    }
}

static void several_captures_live_side_by_side(void **state)
{
    static struct net a, b;
    make_net(*state, &a);
    make_net(*state, &b);
    b.w[0] = tensor_scale(*state, b.w[0], -0.5, 0);
    struct capture *pa = plan_of(*state, &a, 32, 32), *pb = plan_of(*state, &b, 32, 32),
                   *pc = plan_of(*state, &a, 24, 40);
    compare_once(*state, pa, &a, 32, 32);
    compare_once(*state, pc, &a, 24, 40);
    compare_once(*state, pb, &b, 32, 32);
    capture_free(pa);
    compare_once(*state, pb, &b, 32, 32);
    capture_free(pb);
    capture_free(pc);
}

static void the_output_outlives_the_plan_and_the_input_survives(void **state)
{
    static struct net n;
    struct scope *s = *state;
    make_net(s, &n);
    struct capture *c = plan_of(s, &n, 32, 32);
    struct tensor *x = tensor_randn(s, 1, SHAPE(2, 3, 32, 32)), *out[2], *eager[2];
    struct tensor *copy = tensor_scale(s, x, 1, 0);
    assert_int_equal(capture_run(c, s, &x, 1, out, 2), 0);
    capture_free(c);
    assert_true(max_difference(s, x, copy) == 0);
    forward(&n, s, &x, 1, eager, 2);
    assert_true(max_difference(s, out[0], eager[0]) <= TOLERANCE);
}

/* Inputs may come in any memory layout, whatever the example had. */
static void layouts_may_differ_from_the_example(void **state)
{
    static struct net n;
    struct scope *s = *state;
    make_net(s, &n);
    struct capture *c = plan_of(s, &n, 32, 32);
    struct tensor *x = tensor_channels_last(s, tensor_randn(s, 1, SHAPE(2, 3, 32, 32))), *out[2], *eager[2];
    assert_int_equal(capture_run(c, s, &x, 1, out, 2), 0);
    forward(&n, s, &x, 1, eager, 2);
    assert_true(max_difference(s, out[0], eager[0]) <= TOLERANCE);
    capture_free(c);
}

struct job {
    struct capture *plan;
    struct net *n;
    pthread_t thread;
    double worst;
};

static void *run_many(void *arg)
{
    struct job *j = arg;
    struct scope *s = scope_new(NULL, cpu);
    for (int i = 0; i < 10; i++) {
        struct scope *t = scope_new(s, cpu);
        struct tensor *x = tensor_randn(t, 1, SHAPE(2, 3, 32, 32)), *fast[2], *eager[2];
        forward(j->n, t, &x, 1, eager, 2);
        if (capture_run(j->plan, t, &x, 1, fast, 2))
            j->worst = INFINITY;
        else
            j->worst = fmax(j->worst, max_difference(t, fast[0], eager[0]));
        scope_free(t);
    }
    scope_free(s);
    return NULL;
}

static void one_plan_serves_several_threads(void **state)
{
    static struct net n;
    struct job jobs[3];
    make_net(*state, &n);
    struct capture *c = plan_of(*state, &n, 32, 32);
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){.plan = c, .n = &n};
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, run_many, &jobs[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(jobs[i].thread, NULL);
        assert_true(jobs[i].worst <= TOLERANCE);
    }
    capture_free(c);
}

static void *capture_and_run(void *arg)
{
    struct job *j = arg;
    struct scope *s = scope_new(NULL, cpu);
    j->plan = plan_of(s, j->n, 32, 32);
    run_many(j);
    capture_free(j->plan);
    scope_free(s);
    return NULL;
}

static void threads_may_capture_at_the_same_time(void **state)
{
    static struct net n;
    struct job jobs[3];
    make_net(*state, &n);
    for (int i = 0; i < 3; i++) {
        jobs[i] = (struct job){.n = &n};
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, capture_and_run, &jobs[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(jobs[i].thread, NULL);
        assert_true(jobs[i].worst <= TOLERANCE);
    }
}

/* Channel counts that fill libtorch's blocked layouts, and ones that leave padding in them. */
static int clipped(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    (void)n_in, (void)n_out;
    out[0] = tensor_relu6(s, tensor_conv2d(s, in[0], arg, NULL, (struct conv_opts){.pad = 1}));
    return 0;
}

static void any_number_of_channels_is_clipped(void **state)
{
    static const int64_t channels[] = {1, 3, 8, 16, 17, 24, 32, 40, 96};
    for (size_t i = 0; i < sizeof channels / sizeof *channels; i++) {
        struct scope *s = scope_new(*state, cpu);
        struct err e = {0};
        int64_t c = channels[i];
        struct tensor *w = tensor_randn(s, 1, SHAPE(c, c, 3, 3)), *x = tensor_randn(s, 1, SHAPE(1, c, 12, 12)), *eager,
                      *fast;
        struct capture *plan = capture_new(s, clipped, w, &x, 1, 1, &e);
        clipped(w, s, &x, 1, &eager, 1);
        capture_run(plan, s, &x, 1, &fast, 1);
        double worst = max_difference(s, eager, fast);
        if (!(worst <= TOLERANCE))
            fail_msg("%lld channels: differs by %g", (long long)c, worst);
        capture_free(plan);
        scope_free(s);
    }
}

static int two_inputs(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    (void)arg, (void)n_in, (void)n_out;
    out[0] = in[0]; /* an output that is an input, and one that is used twice */
    out[1] = tensor_sub(s, in[0], in[1]);
    out[2] = out[1];
    return 0;
}

static void inputs_and_outputs_may_coincide(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct tensor *in[] = {VECTOR(s, 5, 6), VECTOR(s, 1, 2)}, *out[3];
    struct capture *c = capture_new(s, two_inputs, NULL, in, 2, 3, &e);
    assert_non_null(c);
    in[0] = VECTOR(s, 10, 20);
    assert_int_equal(capture_run(c, s, in, 2, out, 3), 0);
    EXPECT(s, out[0], 10, 20);
    EXPECT(s, out[1], 9, 18);
    EXPECT(s, out[2], 9, 18);
    capture_free(c);
}

static void a_plan_is_bound_to_its_shapes(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct tensor *in[] = {VECTOR(s, 5, 6), VECTOR(s, 1, 2)}, *out[3];
    struct capture *c = capture_new(s, two_inputs, NULL, in, 2, 3, &e);
    struct tensor *other[][2] = {{VECTOR(s, 1), in[1]}, {in[0], tensor_to(s, in[1], TENSOR_F64)}, {in[0], NULL}};
    for (size_t i = 0; i < 3; i++) {
        struct scope *t = scope_new(s, cpu);
        assert_int_equal(capture_run(c, t, other[i], 2, out, 3), ERR_INVALID);
        assert_null(out[0]);
        scope_free(t);
    }
    struct scope *t = scope_new(s, cpu);
    assert_int_equal(capture_run(c, t, in, 1, out, 3), ERR_INVALID);
    scope_free(t);
    capture_free(c);
    capture_free(NULL);
}

static int failing(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    (void)n_in, (void)n_out;
    switch (*(int *)arg) {
    case 0:
        out[0] = tensor_reshape(s, in[0], SHAPE(3, 3, 3));
        return 0;
    case 1:
        return ERR_NOTFOUND;
    default:
        return 0; /* forgets its output */
    }
}

static void failures_inside_the_function_come_out(void **state)
{
    static const int codes[] = {ERR_COMPUTE, ERR_NOTFOUND, ERR_INVALID};
    for (int i = 0; i < 3; i++) {
        struct scope *s = scope_new(*state, cpu);
        struct err e = {0};
        struct tensor *x = VECTOR(s, 1, 2);
        assert_null(capture_new(s, failing, &i, &x, 1, 1, &e));
        assert_int_equal(e.code, codes[i]);
        assert_true(e.msg[0] != 0);
        scope_free(s);
    }
    static struct net n; /* and the tracer is usable afterwards */
    make_net(*state, &n);
    struct capture *c = plan_of(*state, &n, 16, 16);
    compare_once(*state, c, &n, 16, 16);
    capture_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(a_capture_equals_the_eager_run),
        SCOPE_TEST(several_captures_live_side_by_side),
        SCOPE_TEST(the_output_outlives_the_plan_and_the_input_survives),
        SCOPE_TEST(layouts_may_differ_from_the_example),
        SCOPE_TEST(one_plan_serves_several_threads),
        SCOPE_TEST(threads_may_capture_at_the_same_time),
        SCOPE_TEST(any_number_of_channels_is_clipped),
        SCOPE_TEST(inputs_and_outputs_may_coincide),
        SCOPE_TEST(a_plan_is_bound_to_its_shapes),
        SCOPE_TEST(failures_inside_the_function_come_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
