/*
 * salient eval: predictions against ground truth. Exit status 0 pass, 3 a gate failed, 1 error.
 * Every choice of a protocol is a flag of the same name, made from the table in core/task/evaluate.def.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/task/evaluate.h"
#include "server/commands.h"

enum { EXIT_GATE = 3, CHOICES_MAX = 16, OWN_OPTIONS_MAX = 24 };
#define BASELINE_BYTES_MAX ((size_t)256 << 20)

struct eval_args {
    const char *pred, *gt, *protocol, *format, *baseline, *output, *plot, *device;
    struct opt_multi min, max_drop;
    bool per_frame;
    int64_t worst, resamples, seed, threads, max_pixels;
    const char *choice[CHOICES_MAX]; /* by position in evaluate_choices */
};

/* The command's options followed by one for each choice. Names of choices have '_' where flags have '-'. */
static void make_options(struct eval_args *a, struct opt *out, char (*names)[32], char (*help)[256])
{
    const struct opt own[] = {
        {"pred", 'p', OPT_STR, &a->pred, "DIR|ZIP", "predictions: PNG or JPEG maps"},
        {"gt", 'g', OPT_STR, &a->gt, "DIR|ZIP", "ground truth: masks of the same names"},
        {"protocol", 0, OPT_STR, &a->protocol, "NAME", "pysod, davsod or davis"},
        {"format", 'f', OPT_STR, &a->format, "NAME", "json, md or junit"},
        {"output", 'o', OPT_STR, &a->output, "FILE", "write the report there instead of to standard output"},
        {"plot", 0, OPT_STR, &a->plot, "FILE", "also write PR and F curves as SVG"},
        {"min", 0, OPT_MULTI, &a->min, "METRIC=V,...",
         "fail below these values (above, where lower is better: mae, decays, temporal_stability)"},
        {"baseline", 'b', OPT_STR, &a->baseline, "FILE", "an earlier JSON report"},
        {"max-drop", 0, OPT_MULTI, &a->max_drop, "METRIC=V,...", "fail when worse than the baseline by more than this"},
        {"per-frame", 0, OPT_BOOL, &a->per_frame, NULL, "report every frame"},
        {"worst", 0, OPT_INT, &a->worst, "N", "worst frames to list"},
        {"resamples", 0, OPT_INT, &a->resamples, "N", "draws of the bootstrap"},
        {"seed", 0, OPT_INT, &a->seed, "N", "seed of the bootstrap"},
        {"max-pixels", 0, OPT_SIZE, &a->max_pixels, "N", "largest image"},
        {"threads", 't', OPT_INT, &a->threads, "N", "0: all cores"},
        {"device", 0, OPT_STR, &a->device, "NAME", "cpu; metrics run nowhere else"},
    };
    size_t n = sizeof(own) / sizeof(own[0]);
    memcpy(out, own, sizeof(own));
    for (size_t i = 0; i < CHOICES_MAX && evaluate_choices[i].name; i++, n++) {
        const struct evaluate_choice_info *c = &evaluate_choices[i];
        snprintf(names[i], sizeof(names[i]), "%s", c->name);
        for (char *s = names[i]; (s = strchr(s, '_'));)
            *s = '-';
        snprintf(help[i], sizeof(help[i]), "override the protocol: %s", c->what);
        out[n] = (struct opt){names[i], 0, OPT_STR, &a->choice[i], c->values, help[i]};
    }
    out[n] = (struct opt){.name = NULL};
}

typedef int (*report_fn)(const struct evaluation *ev, struct buf *out, struct err *e);

static report_fn find_report(const char *format, struct err *e)
{
    static const struct {
        const char *name;
        report_fn fn;
    } formats[] = {{"json", evaluation_json}, {"md", evaluation_markdown}, {"junit", evaluation_junit}};
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(formats[i].name, format) == 0)
            return formats[i].fn;
    err_set(e, ERR_INVALID, "--format '%s': must be json, md or junit", format);
    return NULL;
}

static int write_report(const struct evaluation *ev, report_fn fn, const char *path, struct err *e)
{
    struct buf b = BUF_INIT;
    int rc = fn(ev, &b, e);
    if (rc == 0 && path)
        rc = fs_write_atomic(path, b.data, b.len, e);
    else if (rc == 0 && (fwrite(b.data, 1, b.len, stdout) != b.len || fflush(stdout)))
        rc = err_errno(e, "writing the report");
    buf_free(&b);
    return rc;
}

/* A flag given several times adds gates. NULL when it was not given. */
static const char *join(const struct opt_multi *m, struct buf *b)
{
    for (size_t i = 0; i < m->n; i++)
        buf_printf(b, "%s%s", i ? "," : "", m->v[i]);
    return b->data;
}

static int evaluate(const struct eval_args *a, bool *pass, struct err *e)
{
    struct evaluate_choice choices[CHOICES_MAX];
    struct buf baseline = BUF_INIT, min = BUF_INIT, max_drop = BUF_INIT;
    struct evaluate_opts o = {.pred = a->pred,
                              .gt = a->gt,
                              .protocol = a->protocol,
                              .choices = choices,
                              .min = join(&a->min, &min),
                              .max_drop = join(&a->max_drop, &max_drop),
                              .per_frame = a->per_frame,
                              .worst = a->worst ? (int)a->worst : -1,
                              .resamples = (int)a->resamples,
                              .seed = (uint64_t)a->seed,
                              .max_pixels = a->max_pixels};
    struct evaluation *ev = NULL;
    report_fn report = find_report(a->format, e);
    for (size_t i = 0; i < CHOICES_MAX && evaluate_choices[i].name; i++)
        if (a->choice[i])
            choices[o.n_choices++] = (struct evaluate_choice){evaluate_choices[i].name, a->choice[i]};
    int rc = report ? 0 : ERR_INVALID;
    if (rc == 0 && (min.failed || max_drop.failed))
        rc = err_set(e, ERR_NOMEM, "no memory");
    if (rc == 0 && a->baseline)
        rc = fs_read(a->baseline, BASELINE_BYTES_MAX, &baseline, e);
    if (rc == 0 && a->baseline) {
        o.baseline = baseline.data ? baseline.data : "";
        o.baseline_len = baseline.len;
        o.baseline_name = a->baseline;
    }
    if (rc == 0)
        rc = evaluate_run(&o, &ev, e);
    if (rc == 0 && a->plot)
        rc = write_report(ev, evaluation_svg, a->plot, e);
    if (rc == 0)
        rc = write_report(ev, report, a->output, e);
    if (rc == 0)
        *pass = evaluation_pass(ev);
    evaluation_free(ev);
    buf_free(&baseline);
    buf_free(&min);
    buf_free(&max_drop);
    return rc;
}

int cmd_eval(int argc, char **argv)
{
    struct eval_args a = {
        .protocol = "pysod", .format = "json", .device = "cpu", .worst = 10, .resamples = 1000, .seed = 1};
    struct opt opts[OWN_OPTIONS_MAX + CHOICES_MAX];
    char names[CHOICES_MAX][32], help[CHOICES_MAX][256];
    make_options(&a, opts, names, help);
    struct opt_cmd cmd = {.name = "salient eval",
                          .usage = "--pred DIR|ZIP --gt DIR|ZIP",
                          .summary =
                              "Measures predictions against ground truth and checks gates. Inputs are flat, have "
                              "one folder a sequence, or DAVIS' Annotations/480p. Exit status: 0 pass, 3 a gate "
                              "failed, 1 error.",
                          .opts = opts};
    struct err e = {0};
    size_t npos;
    bool pass = false;
    int rc = opt_parse(&cmd, argc, argv, NULL, 0, &npos, &e);
    if (rc == 1)
        return 0;
    if (rc == 0 && (!a.pred || !a.gt))
        rc = err_set(&e, ERR_INVALID, "--pred and --gt are needed");
    if (rc == 0 && strcmp(a.device, "cpu") != 0)
        rc = err_set(&e, ERR_DEVICE, "--device '%s': metrics run on the CPU only", a.device);
    if (rc == 0 && (a.worst < 0 || a.worst > 1000000 || a.resamples < 1 || a.resamples > 100000 || a.seed < 1 ||
                    a.threads < 0 || a.threads > 256 || a.max_pixels < 0))
        rc = err_set(&e, ERR_INVALID, "--worst, --resamples, --seed, --threads or --max-pixels is out of range");
    if (rc == 0) {
        /* Pictures of one size come and go by the thousand: their memory is kept, not given back and cleared again. */
        mallopt(M_MMAP_THRESHOLD, 64 << 20);
        mallopt(M_TRIM_THRESHOLD, 512 << 20);
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        par_init(a.threads ? (int)a.threads : cores > 0 ? (int)cores : 1);
        rc = evaluate(&a, &pass, &e);
    }
    if (rc) {
        fprintf(stderr, "salient eval: %s\n", e.msg);
        return 1;
    }
    return pass ? 0 : EXIT_GATE;
}
