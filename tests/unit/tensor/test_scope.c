/* Scopes: lifetime, sticky errors, what each kind of exception becomes, devices, threads. */
#include "tests/unit/tensor/tensor_check.h"

#include <pthread.h>

#if defined(__SANITIZE_ADDRESS__)
/* An allocation that is too large must fail as it does without the sanitizer. */
__attribute__((visibility("default"))) const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1";
}
#endif

static void errors_stick_and_name_the_operation(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    struct tensor *a = tensor_zeros(s, TENSOR_F32, SHAPE(2, 3)), *b = tensor_zeros(s, TENSOR_F32, SHAPE(4, 5));
    assert_null(tensor_matmul(s, a, b));
    assert_int_equal(scope_status(s, &e), ERR_COMPUTE);
    assert_non_null(strstr(e.msg, "matmul (2,3), (4,5): "));
    assert_null(strchr(e.msg, '\n'));
    assert_null(tensor_relu(s, a)); /* a legal operation on a failed scope does nothing */
    assert_null(tensor_relu(s, NULL));
    struct err again = {0};
    scope_fail(s, ERR_IO, "later");
    scope_status(s, &again);
    assert_string_equal(again.msg, e.msg); /* the first error stays */
}

static void a_null_input_fails_the_scope(void **state)
{
    struct scope *s = *state;
    struct err e = {0};
    assert_null(tensor_add(s, tensor_zeros(s, TENSOR_F32, SHAPE(1)), NULL));
    assert_int_equal(scope_status(s, &e), ERR_INVALID);
    assert_string_equal(e.msg, "add: input 1 is NULL");
    assert_int_equal(tensor_ndim(NULL), 0);
    assert_int_equal(tensor_dim(NULL, 0), 0);
    assert_int_equal(tensor_numel(NULL), 0);
    struct tensor *list[] = {NULL};
    struct scope *t = scope_new(s, cpu);
    assert_null(tensor_concat(t, list, 1, 0));
    assert_int_equal(scope_status(t, NULL), ERR_INVALID);
    scope_free(t);
}

static void a_null_scope_is_out_of_memory(void **state)
{
    (void)state;
    struct err e = {0};
    assert_null(tensor_zeros(NULL, TENSOR_F32, SHAPE(1)));
    assert_int_equal(scope_status(NULL, &e), ERR_NOMEM);
    assert_int_equal(tensor_read_f32(NULL, NULL, NULL, 0), ERR_NOMEM);
    assert_true(isnan(tensor_item(NULL, NULL)));
    assert_false(scope_grad(NULL));
    scope_free(NULL);
}

/* One way to fail per row: the operation must return NULL and leave this code. */
static struct tensor *huge_zeros(struct scope *s)
{
    return tensor_zeros(s, TENSOR_F32, SHAPE(1 << 20, 1 << 20, 64));
}

static struct tensor *huge_result(struct scope *s)
{
    return tensor_mul(s, tensor_zeros(s, TENSOR_F32, SHAPE(1 << 24, 1)),
                      tensor_zeros(s, TENSOR_F32, SHAPE(1, 1 << 24)));
}

static struct tensor *overflowing_shape(struct scope *s)
{
    return tensor_zeros(s, TENSOR_F32, SHAPE(INT64_MAX, INT64_MAX));
}

static struct tensor *negative_size(struct scope *s)
{
    return tensor_full(s, 1, SHAPE(2, -1));
}

static struct tensor *too_many_dimensions(struct scope *s)
{
    return tensor_zeros(s, TENSOR_F32, SHAPE(1, 1, 1, 1, 1, 1, 1));
}

static struct tensor *unknown_type(struct scope *s)
{
    return tensor_zeros(s, (enum tensor_dtype)7, SHAPE(1));
}

static struct tensor *wrong_groups(struct scope *s)
{
    struct tensor *x = tensor_zeros(s, TENSOR_F32, SHAPE(1, 3, 4, 4)),
                  *w = tensor_zeros(s, TENSOR_F32, SHAPE(4, 2, 3, 3));
    return tensor_conv2d(s, x, w, NULL, (struct conv_opts){0});
}

static struct tensor *slice_outside(struct scope *s)
{
    return tensor_slice(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), 0, 2, 2);
}

static struct tensor *bad_axis(struct scope *s)
{
    return tensor_softmax(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), 4);
}

static struct tensor *bad_reshape(struct scope *s)
{
    return tensor_reshape(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), SHAPE(2, 2));
}

static struct tensor *empty_concat(struct scope *s)
{
    return tensor_concat(s, NULL, 0, 0);
}

static struct tensor *bce_shapes(struct scope *s)
{
    return tensor_bce_with_logits(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), tensor_zeros(s, TENSOR_F32, SHAPE(1)),
                                  NULL);
}

static struct tensor *flat_sample(struct scope *s)
{
    return tensor_sample(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), tensor_zeros(s, TENSOR_F32, SHAPE(1)));
}

static struct tensor *channels_last_of_a_vector(struct scope *s)
{
    return tensor_channels_last(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)));
}

static struct tensor *read_wrong_size(struct scope *s)
{
    float out[2];
    assert_int_equal(tensor_read_f32(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), out, 2), ERR_INVALID);
    return NULL;
}

static struct tensor *read_raw_wrong_size(struct scope *s)
{
    char out[2];
    assert_int_equal(tensor_read_raw(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)), out, 2), ERR_INVALID);
    return NULL;
}

static struct tensor *item_of_many(struct scope *s)
{
    assert_true(isnan(tensor_item(s, tensor_zeros(s, TENSOR_F32, SHAPE(3)))));
    return NULL;
}

static struct tensor *backward_without_gradients(struct scope *s)
{
    assert_int_equal(tensor_backward(s, tensor_full(s, 1, 0, NULL)), ERR_INVALID);
    return NULL;
}

static struct tensor *absent_device(struct scope *s)
{
    struct tensor_device gpu;
    struct err e = {0};
    if (!tensor_device_parse("cuda:0", &gpu, NULL)) {
        scope_fail(s, ERR_DEVICE, "not absent here");
        return NULL;
    }
    struct scope *t = scope_new(s, (struct tensor_device){TENSOR_CUDA, 0});
    assert_null(tensor_zeros(t, TENSOR_F32, SHAPE(1)));
    scope_status(t, &e);
    scope_free(t);
    scope_fail(s, e.code, "%s", e.msg);
    return NULL;
}

static void every_exception_becomes_an_error(void **state)
{
    (void)state;
    static const struct {
        struct tensor *(*run)(struct scope *s);
        int code;
    } cases[] = {
        {huge_zeros, ERR_NOMEM},
        {huge_result, ERR_NOMEM},
        {overflowing_shape, ERR_INVALID},
        {negative_size, ERR_INVALID},
        {too_many_dimensions, ERR_INVALID},
        {unknown_type, ERR_INVALID},
        {wrong_groups, ERR_COMPUTE},
        {slice_outside, ERR_COMPUTE},
        {bad_axis, ERR_COMPUTE},
        {bad_reshape, ERR_COMPUTE},
        {empty_concat, ERR_COMPUTE},
        {bce_shapes, ERR_INVALID},
        {flat_sample, ERR_INVALID},
        {channels_last_of_a_vector, ERR_COMPUTE},
        {read_wrong_size, ERR_INVALID},
        {read_raw_wrong_size, ERR_INVALID},
        {item_of_many, ERR_INVALID},
        {backward_without_gradients, ERR_INVALID},
        {absent_device, ERR_DEVICE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct scope *s = scope_new(NULL, cpu);
        struct err e = {0};
        assert_null(cases[i].run(s));
        if (scope_status(s, &e) != cases[i].code)
            fail_msg("case %zu: %d %s", i, e.code, e.msg);
        assert_true(e.msg[0] != 0);
        scope_free(s);
    }
}

static void memory_is_back_after_an_allocation_failed(void **state)
{
    struct scope *s = *state;
    for (int i = 0; i < 3; i++) {
        struct scope *t = scope_new(s, cpu);
        assert_null(huge_zeros(t));
        assert_int_equal(scope_status(t, NULL), ERR_NOMEM);
        scope_free(t);
    }
    EXPECT(s, tensor_full(s, 1, SHAPE(2)), 1, 1);
}

static void keep_moves_a_result_to_the_parent(void **state)
{
    struct scope *parent = *state, *child = scope_new(parent, cpu);
    struct tensor *a = tensor_full(child, 1, SHAPE(2)), *b = tensor_full(child, 2, SHAPE(2));
    struct tensor *c = tensor_add(child, a, b);
    assert_ptr_equal(scope_keep(child, c), c);
    assert_ptr_equal(scope_keep(child, a), a);
    scope_free(child);
    EXPECT(parent, c, 3, 3);
    EXPECT(parent, tensor_sub(parent, c, a), 2, 2);
}

static void only_a_kept_result_carries_failure_up(void **state)
{
    struct scope *parent = *state, *child = scope_new(parent, cpu);
    struct err e = {0};
    scope_fail(child, ERR_IO, "disk %d", 7);
    scope_free(child);
    assert_int_equal(scope_status(parent, NULL), 0);
    child = scope_new(parent, cpu);
    scope_fail(child, ERR_IO, "disk %d", 7);
    assert_null(scope_keep(child, NULL));
    scope_free(child);
    assert_int_equal(scope_status(parent, &e), ERR_IO);
    assert_string_equal(e.msg, "disk 7");
}

static void keeping_null_fails_both(void **state)
{
    struct scope *parent = *state, *child = scope_new(parent, cpu);
    assert_null(scope_keep(child, NULL));
    assert_int_equal(scope_status(child, NULL), ERR_INVALID);
    assert_int_equal(scope_status(parent, NULL), ERR_INVALID);
    scope_free(child);
}

static void gradients_are_inherited_by_children(void **state)
{
    struct scope *s = *state;
    assert_false(scope_grad(s));
    scope_set_grad(s, true);
    struct scope *child = scope_new(s, cpu);
    assert_true(scope_grad(child));
    scope_free(child);
}

static void devices_are_parsed_strictly(void **state)
{
    (void)state;
    struct tensor_device d;
    struct err e = {0};
    assert_int_equal(tensor_device_parse("cpu", &d, &e), 0);
    assert_int_equal(d.type, TENSOR_CPU);
    assert_int_equal(tensor_device_parse("auto", &d, &e), 0);
    static const char *const bad[] = {"",        "CPU",     "gpu",   "cuda:",        "cuda:x",
                                      "cuda:-1", "cuda:1x", "cpu:0", "cuda:99999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tensor_device_parse(bad[i], &d, &e), ERR_INVALID);
    assert_int_equal(tensor_device_parse("cuda:999", &d, &e), ERR_DEVICE);
    assert_non_null(strstr(e.msg, "cuda:999"));
}

static void the_library_is_a_fast_one(void **state)
{
    (void)state;
    struct err e = {0};
    assert_non_null(strstr(tensor_version(), "libtorch "));
    if (tensor_check_blas(&e))
        fail_msg("%s", e.msg);
}

static void *multiply(void *arg)
{
    struct tensor *shared = arg; /* a weight of another thread's scope */
    struct scope *s = scope_new(NULL, cpu);
    double sum = 0;
    for (int i = 0; i < 20; i++) {
        struct scope *t = scope_new(s, cpu);
        sum += tensor_item(t, tensor_mean(t, tensor_matmul(t, shared, shared)));
        scope_free(t);
    }
    scope_free(s);
    return sum == 20 * 64 ? arg : NULL;
}

static void scopes_of_several_threads_are_independent(void **state)
{
    struct scope *s = *state;
    struct tensor *ones = tensor_full(s, 1, SHAPE(64, 64));
    pthread_t t[4];
    tensor_set_threads(2);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&t[i], NULL, multiply, ones), 0);
    for (int i = 0; i < 4; i++) {
        void *result;
        pthread_join(t[i], &result);
        assert_ptr_equal(result, ones);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(errors_stick_and_name_the_operation),
        SCOPE_TEST(a_null_input_fails_the_scope),
        SCOPE_TEST(a_null_scope_is_out_of_memory),
        SCOPE_TEST(every_exception_becomes_an_error),
        SCOPE_TEST(memory_is_back_after_an_allocation_failed),
        SCOPE_TEST(keep_moves_a_result_to_the_parent),
        SCOPE_TEST(only_a_kept_result_carries_failure_up),
        SCOPE_TEST(keeping_null_fails_both),
        SCOPE_TEST(gradients_are_inherited_by_children),
        SCOPE_TEST(devices_are_parsed_strictly),
        SCOPE_TEST(the_library_is_a_fast_one),
        SCOPE_TEST(scopes_of_several_threads_are_independent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
