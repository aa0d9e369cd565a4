/*
 * bench_net ARCH SIZE [THREADS]: milliseconds a frame of one architecture, captured as inference runs it, split by part and set against the
 * arithmetic floor. Parts are timed as growing prefixes of the network (backbone, + pyramid, + refinement and decoder, + temporal module),
 * in alternating order; a part is the difference of two. The last row is the plan that inference runs, which for the
 * published networks has the factored decoder. Prints best and median.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/par.h"
#include "core/net/layers.h"
#include "core/net/plan.h"

enum { BACKBONE, PYRAMID, IMAGE, VIDEO, PLAN, ROWS, ROUNDS = 3 };
static const char *const names[ROWS] = {"backbone", "+ pyramid", "+ refinement, decoder", "+ temporal module", "plan"};
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

struct bench {
    const struct net_arch *arch;
    int px, frames, threads;
    struct scope *s;
    struct weights *w, *folded;
    struct tensor *x;
    struct prefix prefix[VIDEO + 1];
    struct capture *graph[VIDEO + 1];
    struct plan *plan;
    float *logits;
    double wall[ROWS][ROUNDS], cpu[ROWS][ROUNDS]; /* ms a frame */
};

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void run_row(struct bench *b, int row, int round)
{
    struct scope *s = scope_new(b->s, scope_device(b->s));
    struct tensor *y;
    float *in = (float *)(uintptr_t)tensor_data(s, b->x);
    double cpu = cpu_ms();
    int64_t start = clock_mono_us();
    if (row == PLAN) {
        plan_run(b->plan, in, b->logits, NULL);
    } else {
        capture_run(b->graph[row], s, &b->x, 1, &y, 1);
        tensor_data(s, y);
    }
    if (round >= 0) {
        b->wall[row][round] = (double)(clock_mono_us() - start) / 1000 / b->frames;
        b->cpu[row][round] = (cpu_ms() - cpu) / b->frames;
    }
    scope_free(s);
}

static int prepare(struct bench *b, struct err *e)
{
    const struct net_arch *a = b->arch;
    char path[] = "/tmp/bench-net-XXXXXX";
    struct model *m = NULL;
    int rc = net_init(a, b->w, 1, e);
    if (rc || (rc = net_fold(a, b->w, b->folded, e)))
        return rc;
    b->x = tensor_randn(b->s, 1, 4, (int64_t[]){b->frames, a->in_channels, b->px, b->px});
    for (int i = 0; i <= (a->has_video ? VIDEO : IMAGE); i++) {
        b->prefix[i] = (struct prefix){.arch = a, .w = b->folded, .upto = i};
        b->graph[i] = capture_new(b->s, forward, &b->prefix[i], &b->x, 1, 1, e);
        if (!b->graph[i])
            return e->code;
    }
    b->logits = malloc((size_t)b->frames * (size_t)b->px * (size_t)b->px * sizeof(float));
    int fd = mkstemp(path);
    if (fd < 0 || !b->logits)
        return err_errno(e, "%s", path);
    close(fd);
    if (!(rc = model_save_weights(a, path, b->w, TENSOR_F32, e)) &&
        !(rc = model_open(path, (struct tensor_device){0}, &m, e)))
        rc = plan_new(m, (struct plan_shape){b->frames, b->px, b->px, a->has_video}, &b->plan, e);
    model_close(m);
    unlink(path);
    return rc;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void report(struct bench *b)
{
    printf("%s %dx%d, windows of %d, %d threads; ms a frame\n", b->arch->name, b->px, b->px, b->frames, b->threads);
    for (int i = 0; i < ROWS; i++) {
        if (i == VIDEO && !b->arch->has_video)
            continue;
        qsort(b->wall[i], ROUNDS, sizeof(double), ascending);
        qsort(b->cpu[i], ROUNDS, sizeof(double), ascending);
        double macs = b->prefix[i < PLAN ? i : b->arch->has_video ? VIDEO : IMAGE].macs / b->frames;
        double floor = 2 * macs / (gflops_per_core * 1e9 * b->threads) * 1000;
        printf("%-22s %8.3f GMAC  floor %8.2f  wall best %8.2f median %8.2f (%5.2f x floor)  cpu best %8.2f\n",
               names[i], macs / 1e9, floor, b->wall[i][0], b->wall[i][ROUNDS / 2], b->wall[i][0] / floor, b->cpu[i][0]);
    }
}

int main(int argc, char **argv)
{
    static struct bench b;
    struct err e = {0};
    b.arch = net_arch_find(argc > 1 ? argv[1] : "rcrnet-lite");
    b.px = argc > 2 ? atoi(argv[2]) : 288;
    b.threads = argc > 3 ? atoi(argv[3]) : 2;
    if (!b.arch || b.px < 32 || b.threads < 1) {
        fprintf(stderr, "usage: bench_net ARCH SIZE [THREADS]\n");
        return 1;
    }
    b.frames = b.arch->clip_length;
    par_init(b.threads);
    tensor_set_threads(b.threads);
    b.s = scope_new(NULL, (struct tensor_device){0});
    b.w = weights_new(b.s);
    b.folded = weights_new(b.s);
    if (prepare(&b, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    for (int round = -1; round < ROUNDS; round++)
        for (int i = 0; i < ROWS; i++)
            if (i != VIDEO || b.arch->has_video)
                run_row(&b, i, round);
    report(&b);
    for (int i = 0; i <= VIDEO; i++)
        capture_free(b.graph[i]);
    plan_free(b.plan);
    free(b.logits);
    weights_free(b.folded);
    weights_free(b.w);
    scope_free(b.s);
    return 0;
}
