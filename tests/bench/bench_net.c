/*
 * bench_net ARCH SIZE [THREADS]: milliseconds a frame of one architecture, captured as inference runs it, split by part and set against the
 * arithmetic floor. Parts are timed as growing prefixes of the network (backbone, + pyramid, + refinement and decoder, + temporal module),
 * in alternating order; a part is the difference of two. Prints best and median.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/par.h"
#include "core/net/layers.h"
#include "core/net/plan.h"

enum { BACKBONE, PYRAMID, IMAGE, VIDEO, PREFIXES, ROUNDS = 15 };
static const char *const names[PREFIXES] = {"backbone", "+ pyramid", "+ refinement, decoder", "+ temporal module"};
static const double gflops_per_core = 77.5; /* measured peak of float32 multiply-adds, both counted */

struct prefix {
    const struct net_arch *arch;
    const struct weights *w;
    int upto;
    double macs;
};

static int forward(void *arg, struct scope *s, struct tensor *const *in, int n_in, struct tensor **out, int n_out)
{
    struct prefix *p = arg;
    struct net_mode mode = {.bn = NET_BN_FOLDED, .macs = &p->macs};
    struct net_walk n = {.s = s, .w = p->w, .mode = mode, .in_channels = p->arch->in_channels};
    struct tensor *x = tensor_channels_last(s, in[0]);
    bool lite = strstr(p->arch->name, "lite") != NULL;
    (void)n_in, (void)n_out;
    if (p->upto >= IMAGE) {
        out[0] = p->upto == VIDEO ? net_video(p->arch, p->w, s, x, mode) : net_image(p->arch, p->w, s, x, mode);
        return 0;
    }
    struct pyramid f = lite ? effnet_lite0(&n, x, "backbone.effnet") : resnet50(&n, x, "backbone.resnet");
    out[0] = f.top;
    if (p->upto == PYRAMID)
        out[0] = lite ? aspp_lite(&n, f.top, "backbone.aspp") : aspp(&n, f.top, "backbone.aspp");
    return 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double run_ms(struct capture *c, struct scope *parent, struct tensor *x)
{
    struct scope *s = scope_new(parent, scope_device(parent));
    struct tensor *y;
    int64_t start = clock_mono_us();
    capture_run(c, s, &x, 1, &y, 1);
    tensor_data(s, y);
    double ms = (double)(clock_mono_us() - start) / 1000;
    scope_free(s);
    return ms;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    const struct net_arch *a = net_arch_find(argc > 1 ? argv[1] : "rcrnet-lite");
    int px = argc > 2 ? atoi(argv[2]) : 288, threads = argc > 3 ? atoi(argv[3]) : 2;
    if (!a || px < 32 || threads < 1)
        return 1;
    int t = a->clip_length, prefixes = a->has_video ? PREFIXES : VIDEO;
    par_init(threads);
    tensor_set_threads(threads);
    struct scope *s = scope_new(NULL, (struct tensor_device){0});
    struct weights *w = weights_new(s), *folded = weights_new(s);
    if (net_init(a, w, 1, &e) || net_fold(a, w, folded, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    struct tensor *x = tensor_randn(s, 1, 4, (int64_t[]){t, a->in_channels, px, px});
    struct prefix p[PREFIXES];
    struct capture *c[PREFIXES];
    static double ms[PREFIXES][ROUNDS];
    for (int i = 0; i < prefixes; i++) {
        p[i] = (struct prefix){.arch = a, .w = folded, .upto = i};
        c[i] = capture_new(s, forward, &p[i], &x, 1, 1, &e);
        if (!c[i]) {
            fprintf(stderr, "%s\n", e.msg);
            return 1;
        }
    }
    for (int r = -2; r < ROUNDS; r++)
        for (int i = 0; i < prefixes; i++) {
            double v = run_ms(c[i], s, x) / t;
            if (r >= 0)
                ms[i][r] = v;
        }
    printf("%s %dx%d, windows of %d, %d threads; ms a frame\n", a->name, px, px, t, threads);
    for (int i = 0; i < prefixes; i++) {
        qsort(ms[i], ROUNDS, sizeof(double), ascending);
        double gmac = p[i].macs / t / 1e9, floor = 2 * gmac / (gflops_per_core * threads) * 1000;
        printf("%-24s %7.3f GMAC  floor %7.2f  best %7.2f  median %7.2f  best/floor %.2f\n", names[i], gmac, floor,
               ms[i][0], ms[i][ROUNDS / 2], ms[i][0] / floor);
        capture_free(c[i]);
    }
    weights_free(folded);
    weights_free(w);
    scope_free(s);
    return 0;
}
