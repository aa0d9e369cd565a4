/* What the tests of core/tensor share: scopes, small literal tensors, and comparison with hand-computed numbers. */
#ifndef TESTS_UNIT_TENSOR_TENSOR_CHECK_H
#define TESTS_UNIT_TENSOR_TENSOR_CHECK_H

#include "tests/unit/check.h"

#include <math.h>

#include "core/tensor/tensor.h"

#define COUNT(type, ...) (sizeof((type[]){__VA_ARGS__}) / sizeof(type))
/* ndim and shape as two arguments: tensor_zeros(s, TENSOR_F32, SHAPE(2, 3)) */
#define SHAPE(...)                                \
    (int)COUNT(int64_t, __VA_ARGS__), (int64_t[]) \
    {                                             \
        __VA_ARGS__                               \
    }
/* A float32 tensor of the given values: VECTOR(s, 1, 2, 3), or with a shape: TENSOR(s, SHAPE(1, 3), 1, 2, 3) */
#define TENSOR(s, shape, ...) literal(s, (float[]){__VA_ARGS__}, COUNT(float, __VA_ARGS__), shape)
#define VECTOR(s, ...) TENSOR(s, SHAPE((int64_t)COUNT(float, __VA_ARGS__)), __VA_ARGS__)
#define EXPECT(s, t, ...) expect_values(s, t, (float[]){__VA_ARGS__}, COUNT(float, __VA_ARGS__), __LINE__)
#define EXPECT_SHAPE(t, ...) expect_shape(t, SHAPE(__VA_ARGS__), __LINE__)

static const struct tensor_device cpu = {TENSOR_CPU, 0};

static inline struct tensor *literal(struct scope *s, const float *values, size_t n, int ndim, const int64_t *shape)
{
    struct tensor *t = tensor_from(s, values, TENSOR_F32, ndim, shape);
    assert_int_equal(tensor_numel(t), n);
    return t;
}

static inline void expect_ok(struct scope *s, int line)
{
    struct err e = {0};
    if (scope_status(s, &e))
        fail_msg("line %d: %s", line, e.msg);
}

static inline void expect_values(struct scope *s, struct tensor *t, const float *want, size_t n, int line)
{
    float got[256];
    expect_ok(s, line);
    if (n > 256 || (size_t)tensor_numel(t) != n)
        fail_msg("line %d: %lld numbers instead of %zu", line, (long long)tensor_numel(t), n);
    tensor_read_f32(s, t, got, (int64_t)n);
    expect_ok(s, line);
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(got[i] - want[i]) <= 1e-5f * (1 + fabsf(want[i]))))
            fail_msg("line %d: [%zu] is %.7g instead of %.7g", line, i, (double)got[i], (double)want[i]);
}

static inline void expect_shape(const struct tensor *t, int ndim, const int64_t *shape, int line)
{
    if (tensor_ndim(t) != ndim)
        fail_msg("line %d: %d dimensions instead of %d", line, tensor_ndim(t), ndim);
    for (int i = 0; i < ndim; i++)
        if (tensor_dim(t, i) != shape[i])
            fail_msg("line %d: dimension %d is %lld", line, i, (long long)tensor_dim(t, i));
}

/* Largest difference of two tensors of one size. */
static inline double max_difference(struct scope *s, struct tensor *a, struct tensor *b)
{
    int64_t n = tensor_numel(a);
    assert_int_equal(tensor_numel(b), n);
    const float *x = tensor_data(s, tensor_to(s, a, TENSOR_F32)), *y = tensor_data(s, tensor_to(s, b, TENSOR_F32));
    expect_ok(s, __LINE__);
    double worst = 0;
    for (int64_t i = 0; i < n; i++)
        worst = fmax(worst, isfinite(x[i]) && isfinite(y[i]) ? fabs((double)x[i] - (double)y[i]) : INFINITY);
    return worst;
}

static inline int open_scope(void **state)
{
    *state = scope_new(NULL, cpu);
    return *state ? 0 : -1;
}

static inline int close_scope(void **state)
{
    scope_free(*state);
    return 0;
}

/* A test that gets a fresh scope as *state. */
#define SCOPE_TEST(f) cmocka_unit_test_setup_teardown(f, open_scope, close_scope)

#endif
