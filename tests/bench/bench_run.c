/*
 * bench_run MODEL INPUT.npy OUTPUT.npy THREADS: one contender of r50_speed.py. Prepares the model for the (T,C,H,W) float32 input, then
 * answers every line on standard input with "wall_ms cpu_ms" of one run, and writes the logits when the input ends.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/base/clock.h"
#include "core/base/par.h"
#include "core/net/npy.h"
#include "core/net/plan.h"

static double cpu_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int serve(struct plan *p, float *in, float *logits, struct err *e)
{
    char line[16];
    int rc = plan_run(p, in, logits, e);
    puts("ready");
    fflush(stdout);
    while (!rc && fgets(line, sizeof(line), stdin)) {
        double cpu = cpu_ms();
        int64_t start = clock_mono_us();
        rc = plan_run(p, in, logits, e);
        printf("%.3f %.3f\n", (double)(clock_mono_us() - start) / 1e3, cpu_ms() - cpu);
        fflush(stdout);
    }
    return rc;
}

static int run(char **argv, struct err *e)
{
    struct model *m = NULL;
    struct plan *p = NULL;
    struct npy x;
    int rc = npy_read(argv[2], (size_t)1 << 30, &x, e);
    if (rc)
        return rc;
    if (x.type != NPY_F32 || x.ndim != 4)
        rc = err_set(e, ERR_INVALID, "%s is not float32 (T,C,H,W)", argv[2]);
    int64_t dims[4] = {x.shape[0], 1, x.shape[2], x.shape[3]};
    float *logits = malloc((size_t)(dims[0] * dims[2] * dims[3]) * sizeof(*logits));
    if (!rc && !logits)
        rc = err_set(e, ERR_NOMEM, "logits");
    if (!rc)
        rc = model_open(argv[1], (struct tensor_device){0}, &m, e);
    if (!rc)
        rc = plan_new(
            m,
            (struct plan_shape){.frames = (int)dims[0], .height = (int)dims[2], .width = (int)dims[3], .video = true},
            &p, e);
    model_close(m);
    if (!rc)
        rc = serve(p, x.data, logits, e);
    if (!rc)
        rc = npy_write_f32(argv[3], logits, 4, dims, e);
    plan_free(p);
    free(logits);
    npy_free(&x);
    return rc;
}

int main(int argc, char **argv)
{
    struct err e = {0};
    int threads = argc == 5 ? atoi(argv[4]) : 0;
    if (threads < 1) {
        fprintf(stderr, "usage: bench_run MODEL INPUT.npy OUTPUT.npy THREADS\n");
        return 1;
    }
    par_init(threads);
    tensor_set_threads(threads);
    if (run(argv, &e)) {
        fprintf(stderr, "%s\n", e.msg);
        return 1;
    }
    return 0;
}
