/* Every operation of tensor.h against numbers computed by hand. */
#include "tests/unit/tensor/tensor_check.h"

static void unary_operations(void **state)
{
    struct scope *s = *state;
    struct tensor *x = VECTOR(s, -1, 0, 0.25f, 4, 7);
    EXPECT(s, tensor_relu(s, x), 0, 0, 0.25f, 4, 7);
    EXPECT(s, tensor_relu6(s, x), 0, 0, 0.25f, 4, 6);
    EXPECT(s, tensor_abs(s, x), 1, 0, 0.25f, 4, 7);
    EXPECT(s, tensor_clamp(s, x, -0.5, 2), -0.5f, 0, 0.25f, 2, 2);
    EXPECT(s, tensor_scale(s, x, 2, -1), -3, -1, -0.5f, 7, 13);
    EXPECT(s, tensor_scale(s, x, 3, 0), -3, 0, 0.75f, 12, 21);
    EXPECT(s, tensor_detach(s, x), -1, 0, 0.25f, 4, 7);
    struct tensor *y = VECTOR(s, 0, 1, 0.25f);
    EXPECT(s, tensor_sigmoid(s, y), 0.5f, 0.7310585786f, 0.5621765009f);
    EXPECT(s, tensor_tanh(s, y), 0, 0.7615941560f, 0.2449186624f);
    EXPECT(s, tensor_exp(s, y), 1, 2.7182818285f, 1.2840254167f);
    EXPECT(s, tensor_sqrt(s, y), 0, 1, 0.5f);
    EXPECT(s, tensor_log(s, VECTOR(s, 1, 2.7182818285f)), 0, 1);
}

static void binary_operations_broadcast(void **state)
{
    struct scope *s = *state;
    struct tensor *a = TENSOR(s, SHAPE(2, 2), 1, 2, 3, 4), *b = TENSOR(s, SHAPE(2, 1), 10, 20);
    EXPECT(s, tensor_add(s, a, b), 11, 12, 23, 24);
    EXPECT(s, tensor_sub(s, a, b), -9, -8, -17, -16);
    EXPECT(s, tensor_mul(s, a, b), 10, 20, 60, 80);
    EXPECT(s, tensor_div(s, a, b), 0.1f, 0.2f, 0.15f, 0.2f);
    EXPECT(s, tensor_matmul(s, a, b), 50, 110);
    struct tensor *batch = TENSOR(s, SHAPE(2, 1, 2), 1, 1, 2, 0);
    struct tensor *product = tensor_matmul(s, batch, a);
    EXPECT_SHAPE(product, 2, 1, 2);
    EXPECT(s, product, 4, 6, 2, 4);
}

static void convolution(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 1, 3, 3), 1, 2, 3, 4, 5, 6, 7, 8, 9);
    struct tensor *w = TENSOR(s, SHAPE(1, 1, 2, 2), 1, 0, 0, -1), *b = VECTOR(s, 100);
    EXPECT(s, tensor_conv2d(s, x, w, b, (struct conv_opts){0}), 96, 96, 96, 96);
    EXPECT(s, tensor_conv2d(s, x, w, NULL, (struct conv_opts){.stride = 2, .pad = 1}), -1, -3, -7, -4);
    EXPECT(s, tensor_conv2d(s, x, w, NULL, (struct conv_opts){.dilation = 2}), -8);
    struct tensor *two = TENSOR(s, SHAPE(1, 2, 1, 1), 3, 5), *dw = TENSOR(s, SHAPE(2, 1, 1, 1), 2, -1);
    EXPECT(s, tensor_conv2d(s, two, dw, NULL, (struct conv_opts){.groups = 2}), 6, -5);
    struct tensor *pw = TENSOR(s, SHAPE(1, 2, 1, 1), 2, -1);
    EXPECT(s, tensor_conv2d(s, two, pw, NULL, (struct conv_opts){0}), 1);
}

static void batch_norm_of_inference(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 2, 1, 2), 1, 3, 10, 20);
    struct tensor *y =
        tensor_batch_norm(s, x, VECTOR(s, 2, 1), VECTOR(s, 0.5f, -1), VECTOR(s, 1, 10), VECTOR(s, 3, 24), 1);
    EXPECT(s, y, 0.5f, 2.5f, -1, 1);
}

static void batch_norm_of_training_updates_the_statistics(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(2, 1, 1, 2), 1, 3, 5, 7); /* mean 4, variance 5, unbiased 20/3 */
    struct tensor *mean = VECTOR(s, 2), *var = VECTOR(s, 1);
    struct tensor *y = tensor_batch_norm_train(s, x, VECTOR(s, 3), VECTOR(s, 1), mean, var, 4, 0.1);
    EXPECT(s, y, -2, 0, 2, 4); /* (x - 4) / 3 * 3 + 1 */
    EXPECT(s, mean, 2.2f);
    EXPECT(s, var, 0.9f + 20.0f / 30.0f);
}

static void shape_operations(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    EXPECT(s, tensor_transpose(s, x, 0, 1), 1, 4, 2, 5, 3, 6);
    EXPECT(s, tensor_permute(s, tensor_reshape(s, x, SHAPE(1, 2, 3)), (int[]){2, 0, 1}), 1, 4, 2, 5, 3, 6);
    struct tensor *r = tensor_reshape(s, x, SHAPE(3, -1));
    EXPECT_SHAPE(r, 3, 2);
    EXPECT(s, r, 1, 2, 3, 4, 5, 6);
    struct tensor *pair[] = {x, TENSOR(s, SHAPE(2, 1), 7, 8)};
    EXPECT(s, tensor_concat(s, pair, 2, 1), 1, 2, 3, 7, 4, 5, 6, 8);
    EXPECT(s, tensor_slice(s, x, 1, 1, 2), 2, 3, 5, 6);
    EXPECT(s, tensor_flip(s, x, 1), 3, 2, 1, 6, 5, 4);
    EXPECT(s, tensor_flip(s, x, 0), 4, 5, 6, 1, 2, 3);
    EXPECT(s, tensor_expand(s, TENSOR(s, SHAPE(2, 1), 1, 2), SHAPE(2, 3)), 1, 1, 1, 2, 2, 2);
    struct tensor *t = tensor_transpose(s, x, 0, 1);
    EXPECT(s, tensor_contiguous(s, t), 1, 4, 2, 5, 3, 6);
    assert_int_equal(tensor_dim(t, -1), 2);
    assert_int_equal(tensor_dim(t, 5), 0);
}

static void layout_does_not_change_values(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 2, 1, 3), 1, 2, 3, 4, 5, 6);
    struct tensor *last = tensor_channels_last(s, x);
    EXPECT_SHAPE(last, 1, 2, 1, 3);
    EXPECT(s, last, 1, 2, 3, 4, 5, 6);
    const float *p = tensor_data(s, last);
    assert_true(p[1] == 2 && p[3] == 4);
}

static void element_types(void **state)
{
    struct scope *s = *state;
    const uint8_t bytes[] = {0, 7, 255};
    const int64_t longs[] = {-5, 1000000007};
    uint8_t back[3];
    struct tensor *u = tensor_from(s, bytes, TENSOR_U8, SHAPE(3));
    EXPECT(s, tensor_to(s, u, TENSOR_F32), 0, 7, 255);
    EXPECT(s, tensor_scale(s, u, 1 / 255.0, 0), 0, 7 / 255.0f, 1);
    assert_int_equal(tensor_read_raw(s, u, back, 3), 0);
    assert_memory_equal(back, bytes, 3);
    struct tensor *l = tensor_from(s, longs, TENSOR_I64, SHAPE(2));
    assert_int_equal(tensor_dtype_of(l), TENSOR_I64);
    EXPECT(s, l, -5, 1000000007.0f);
    static const enum tensor_dtype all[] = {TENSOR_F32, TENSOR_F16, TENSOR_F64, TENSOR_U8, TENSOR_I64, TENSOR_BF16};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        struct tensor *t = tensor_to(s, VECTOR(s, 1, 2), all[i]);
        assert_int_equal(tensor_dtype_of(t), all[i]);
        EXPECT(s, t, 1, 2);
        EXPECT(s, tensor_zeros(s, all[i], SHAPE(2)), 0, 0);
    }
}

static void making_tensors(void **state)
{
    struct scope *s = *state;
    float mine[] = {1, 2, 3, 4};
    EXPECT(s, tensor_full(s, 2.5, SHAPE(2, 1)), 2.5f, 2.5f);
    struct tensor *b = tensor_borrow(s, mine, TENSOR_F32, SHAPE(2, 2));
    mine[3] = 9;
    EXPECT(s, b, 1, 2, 3, 9);
    assert_ptr_equal(tensor_data(s, b), mine);
    struct tensor *scalar = tensor_full(s, 3, 0, NULL);
    assert_int_equal(tensor_ndim(scalar), 0);
    assert_true(tensor_item(s, scalar) == 3);
    assert_int_equal(tensor_numel(tensor_zeros(s, TENSOR_F32, SHAPE(0, 4))), 0);
}

static void random_numbers_follow_the_seed(void **state)
{
    struct scope *s = *state;
    tensor_seed(7);
    struct tensor *a = tensor_randn(s, 2, SHAPE(10000)), *b = tensor_randn(s, 2, SHAPE(10000));
    tensor_seed(7);
    struct tensor *c = tensor_randn(s, 2, SHAPE(10000));
    assert_true(max_difference(s, a, c) == 0);
    assert_true(max_difference(s, a, b) > 0);
    assert_true(fabs(tensor_item(s, tensor_mean(s, a))) < 0.1);
    assert_true(fabs(tensor_item(s, tensor_mean(s, tensor_mul(s, a, a))) - 4) < 0.25);
}

static void bilinear_resizing(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 1, 1, 2), 0, 4);
    EXPECT(s, tensor_resize(s, x, 1, 4, false), 0, 1, 3, 4); /* sources -0.25, 0.25, 0.75, 1.25 */
    EXPECT(s, tensor_resize(s, x, 1, 2, false), 0, 4);
    EXPECT(s, tensor_resize(s, x, 2, 3, false), 0, 2, 4, 0, 2, 4); /* sources -1/6, 0.5, 7/6 */
    struct tensor *row = TENSOR(s, SHAPE(1, 1, 1, 4), 0, 0, 8, 8);
    EXPECT(s, tensor_resize(s, row, 1, 2, false), 0, 8); /* point samples at 0.5 and 2.5 */
    /* With antialiasing a triangle of half-width 2: pixel weights 3 3 1 (0 beyond the edge) around 0.5 and mirrored. */
    EXPECT(s, tensor_resize(s, row, 1, 2, true), 8.0f / 7, 48.0f / 7);
}

static void pooling(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 1, 3, 3), 1, 2, 3, 4, 5, 6, 7, 8, 9);
    EXPECT(s, tensor_global_avg_pool(s, x), 5);
    EXPECT(s, tensor_max_pool(s, x, 2, 1, 0), 5, 6, 8, 9);
    EXPECT(s, tensor_max_pool(s, x, 3, 2, 1), 5, 6, 8, 9);
    EXPECT(s, tensor_avg_pool(s, x, 2, 1, 0), 3, 4, 6, 7);
}

static void reductions(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(2, 3), 1, 2, 3, 4, 5, 6);
    assert_true(tensor_item(s, tensor_sum(s, x)) == 21);
    assert_true(tensor_item(s, tensor_mean(s, x)) == 3.5);
    struct tensor *rows = tensor_sum_dims(s, x, (int[]){1}, 1);
    EXPECT_SHAPE(rows, 2, 1);
    EXPECT(s, rows, 6, 15);
    EXPECT_SHAPE(tensor_sum_dims(s, x, (int[]){0, 1}, 2), 1, 1);
    EXPECT(s, tensor_softmax(s, TENSOR(s, SHAPE(2, 2), 0, 0, 0, 1.0986122887f), 1), 0.5f, 0.5f, 0.25f, 0.75f);
}

static void sampling_takes_pixel_coordinates_and_clamps(void **state)
{
    struct scope *s = *state;
    struct tensor *x = TENSOR(s, SHAPE(1, 1, 2, 3), 0, 1, 2, 10, 11, 12);
    struct tensor *grid = TENSOR(s, SHAPE(1, 1, 4, 2), 1, 0, 0.5f, 0.5f, -3, 0, 9, 9);
    EXPECT(s, tensor_sample(s, x, grid), 1, 5.5f, 0, 12);
    struct tensor *dot = TENSOR(s, SHAPE(1, 1, 1, 1), 4); /* one pixel: every place is that pixel */
    EXPECT(s, tensor_sample(s, dot, grid), 4, 4, 4, 4);
}

static void dropout_only_drops_where_gradients_are_recorded(void **state)
{
    struct scope *s = *state;
    struct tensor *x = tensor_full(s, 1, SHAPE(1, 200, 2, 1));
    assert_true(max_difference(s, tensor_dropout2d(s, x, 0.5), x) == 0);
    scope_set_grad(s, true);
    const float *p = tensor_data(s, tensor_dropout2d(s, x, 0.5));
    int dropped = 0;
    for (int c = 0; c < 200; c++) {
        assert_true(p[2 * c] == p[2 * c + 1] && (p[2 * c] == 0 || p[2 * c] == 2)); /* whole channels */
        dropped += p[2 * c] == 0;
    }
    assert_in_range(dropped, 60, 140);
}

static void bce_with_logits(void **state)
{
    struct scope *s = *state;
    struct tensor *x = VECTOR(s, 0, 200, -200, 2), *y = VECTOR(s, 1, 1, 1, 0);
    /* ln 2, 0, 200, ln(1 + e^2) */
    assert_true(fabs(tensor_item(s, tensor_bce_with_logits(s, x, y, NULL)) - (0.693147 + 200 + 2.126928) / 4) < 1e-4);
    struct tensor *w = VECTOR(s, 2, 1, 0, 0);
    assert_true(fabs(tensor_item(s, tensor_bce_with_logits(s, x, y, w)) - 2 * 0.693147 / 4) < 1e-6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SCOPE_TEST(unary_operations),
        SCOPE_TEST(binary_operations_broadcast),
        SCOPE_TEST(convolution),
        SCOPE_TEST(batch_norm_of_inference),
        SCOPE_TEST(batch_norm_of_training_updates_the_statistics),
        SCOPE_TEST(shape_operations),
        SCOPE_TEST(layout_does_not_change_values),
        SCOPE_TEST(element_types),
        SCOPE_TEST(making_tensors),
        SCOPE_TEST(random_numbers_follow_the_seed),
        SCOPE_TEST(bilinear_resizing),
        SCOPE_TEST(pooling),
        SCOPE_TEST(reductions),
        SCOPE_TEST(sampling_takes_pixel_coordinates_and_clamps),
        SCOPE_TEST(dropout_only_drops_where_gradients_are_recorded),
        SCOPE_TEST(bce_with_logits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
