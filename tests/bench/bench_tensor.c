/*
 * bench_tensor: what capturing a network is worth. An EfficientNet-Lite0 body (output stride 16) at 256x256, random
 * weights, run eager, eager in channels_last, and captured, in alternating order. Prints milliseconds a frame: best and
 * median.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/tensor/tensor.h"

enum { SIZE = 256, ROUNDS = 15, MAX_LAYERS = 80 };

struct layer {
    struct tensor *w, *gamma, *beta, *mean, *var;
    struct conv_opts o;
    bool act, open, close; /* relu6 after; a residual branch starts before this layer, ends after it */
};

struct body {
    struct layer layers[MAX_LAYERS];
    int n;
};

static void add_layer(struct scope *s, struct body *b, int in, int out, int k, struct conv_opts o, bool act)
{
    struct layer *l = &b->layers[b->n++];
    int64_t ws[] = {out, o.groups > 1 ? 1 : in, k, k}, cs[] = {out};
    o.pad = o.dilation > 1 ? o.dilation * (k / 2) : k / 2;
    *l = (struct layer){.o = o, .act = act};
    l->w = tensor_randn(s, 0.1, 4, ws);
    l->gamma = tensor_full(s, 1, 1, cs);
    l->beta = tensor_full(s, 0.1, 1, cs);
    l->mean = tensor_full(s, 0, 1, cs);
    l->var = tensor_full(s, 1, 1, cs);
}

static void add_block(struct scope *s, struct body *b, int in, int out, int k, int stride, int dilation, int expand)
{
    bool residual = stride == 1 && in == out;
    int mid = in * expand, first = b->n;
    if (expand > 1)
        add_layer(s, b, in, mid, 1, (struct conv_opts){0}, true);
    add_layer(s, b, mid, mid, k, (struct conv_opts){.stride = stride, .groups = mid, .dilation = dilation}, true);
    add_layer(s, b, mid, out, 1, (struct conv_opts){0}, false);
    b->layers[first].open = residual;
    b->layers[b->n - 1].close = residual;
}

static void build(struct scope *s, struct body *b)
{
    static const int stage[7][5] = {/* expand, out, repeats, stride, kernel */
                                    {1, 16, 1, 1, 3},  {6, 24, 2, 2, 3},  {6, 40, 2, 2, 5}, {6, 80, 3, 2, 3},
                                    {6, 112, 3, 1, 5}, {6, 192, 4, 1, 5}, {6, 320, 1, 1, 3}};
    int in = 32;
    b->n = 0;
    add_layer(s, b, 3, in, 3, (struct conv_opts){.stride = 2}, true);
    for (int i = 0; i < 7; i++) {
        for (int r = 0; r < stage[i][2]; r++) {
            add_block(s, b, in, stage[i][1], stage[i][4], r ? 1 : stage[i][3], i >= 5 ? 2 : 1, stage[i][0]);
            in = stage[i][1];
        }
    }
}

static int forward(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    struct body *b = arg;
    struct tensor *x = in[0], *skip = NULL;
    (void)n_in, (void)n_out;
    for (int i = 0; i < b->n; i++) {
        struct layer *l = &b->layers[i];
        if (l->open)
            skip = x;
        x = tensor_conv2d(s, x, l->w, NULL, l->o);
        x = tensor_batch_norm(s, x, l->gamma, l->beta, l->mean, l->var, 1e-3);
        if (l->act)
            x = tensor_relu6(s, x);
        if (l->close)
            x = tensor_add(s, x, skip);
    }
    out[0] = x;
    return 0;
}

static int cmp_double(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(const char *name, double *ms)
{
    qsort(ms, ROUNDS, sizeof *ms, cmp_double);
    printf("%-22s best %6.1f ms  median %6.1f ms a frame\n", name, ms[0], ms[ROUNDS / 2]);
}

static double time_ms(struct capture *plan, struct body *b, struct scope *root, struct tensor *x, float *out)
{
    struct scope *s = scope_new(root, scope_device(root));
    struct tensor *y = NULL;
    int64_t start = clock_mono_us();
    if (plan)
        capture_run(plan, s, &x, 1, &y, 1);
    else
        forward(b, s, &x, 1, &y, 1);
    tensor_read_f32(s, y, out, tensor_numel(y));
    double ms = (double)(clock_mono_us() - start) / 1000.0;
    scope_free(s);
    return ms;
}

int main(int argc, char **argv)
{
    static struct body plain, last;
    static float out[320 * 16 * 16];
    struct err e = {0};
    double ms[3][ROUNDS];
    struct scope *s = scope_new(NULL, (struct tensor_device){0});
    tensor_set_threads(argc > 1 ? atoi(argv[1]) : 2);
    build(s, &plain);
    last = plain;
    for (int i = 0; i < last.n; i++)
        last.layers[i].w = tensor_channels_last(s, last.layers[i].w);
    struct tensor *x = tensor_randn(s, 1, 4, (int64_t[]){1, 3, SIZE, SIZE}), *xl = tensor_channels_last(s, x);
    struct capture *plan = capture_new(s, forward, &plain, &x, 1, 1, &e);
    if (!plan) {
        fprintf(stderr, "capture: %s\n", e.msg);
        return 1;
    }
    for (int i = -2; i < ROUNDS; i++) {
        double a = time_ms(NULL, &plain, s, x, out), b = time_ms(NULL, &last, s, xl, out),
               c = time_ms(plan, NULL, s, x, out);
        if (i >= 0)
            ms[0][i] = a, ms[1][i] = b, ms[2][i] = c;
    }
    printf("%s\n", tensor_version());
    report("eager", ms[0]);
    report("eager, channels_last", ms[1]);
    report("captured", ms[2]);
    capture_free(plan);
    scope_free(s);
    return 0;
}
