/* salient train: the training task from the command line. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/task/train.h"
#include "server/commands.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

static bool cancel(void *arg)
{
    (void)arg;
    return interrupted;
}

struct terminal {
    bool tty;
    int64_t shown_ms;
};

/* A line that redraws itself on a terminal; one line a minute elsewhere. */
static void show_progress(void *arg, const struct train_progress *p)
{
    struct terminal *t = arg;
    int64_t now = clock_mono_ms();
    if (now - t->shown_ms < (t->tty ? 500 : 60000))
        return;
    t->shown_ms = now;
    fprintf(stderr, "%sepoch %d/%d  step %lld/%lld  loss %.4f  lr %.2e  %.1f samples/s%s", t->tty ? "\r" : "", p->epoch,
            p->epochs, (long long)p->step, (long long)p->steps, p->loss, p->lr, p->samples_per_s,
            t->tty ? "\033[K" : "\n");
    fflush(stderr);
}

static void show_line(void *arg, const char *json)
{
    const struct terminal *t = arg;
    if (t->tty)
        fputs("\r\033[K", stderr);
    puts(json);
    fflush(stdout);
}

/* Flags as the option table stores them; strings that pick defaults are looked at first. */
struct flags {
    struct opt_multi data;
    const char *arch, *freeze, *init, *out, *stage, *loss, *device, *dump;
    int64_t size, batch, clip, epochs, steps, patience, seed, loaders, threads, cache;
    double max_minutes, lr, backbone_scale, weight_decay, clip_norm, warmup, ema, val_fraction, composite, zoom_out,
        occluder, motion, save_minutes;
    bool resume;
};

static void fill_defaults(struct flags *f, const struct train_opts *d)
{
    f->arch = d->arch;
    f->loss = d->loss;
    f->batch = d->batch;
    f->clip = d->clip;
    f->epochs = d->epochs;
    f->patience = d->patience;
    f->seed = (int64_t)d->seed;
    f->loaders = d->loaders;
    f->cache = (int64_t)d->cache_bytes;
    f->lr = d->lr;
    f->backbone_scale = d->backbone_scale;
    f->weight_decay = d->weight_decay;
    f->clip_norm = d->clip_norm;
    f->warmup = d->warmup;
    f->ema = d->ema;
    f->val_fraction = d->val_fraction;
    f->composite = d->composite;
    f->zoom_out = d->zoom_out;
    f->occluder = d->occluder;
    f->motion = d->motion;
    f->save_minutes = d->save_minutes;
}

static void fill_opts(struct train_opts *o, const struct flags *f)
{
    o->arch = f->arch;
    o->data = f->data.v;
    o->n_data = f->data.n;
    o->init = f->init;
    o->out = f->out;
    o->size = (int)f->size;
    o->batch = (int)f->batch;
    o->clip = (int)f->clip;
    o->epochs = (int)f->epochs;
    o->max_steps = f->steps;
    o->max_minutes = f->max_minutes;
    o->lr = f->lr;
    o->backbone_scale = f->backbone_scale;
    o->freeze = f->freeze;
    o->weight_decay = f->weight_decay;
    o->clip_norm = f->clip_norm;
    o->warmup = f->warmup;
    o->ema = f->ema;
    o->patience = (int)f->patience;
    o->loss = f->loss;
    o->val_fraction = f->val_fraction;
    o->composite = f->composite;
    o->zoom_out = f->zoom_out;
    o->occluder = f->occluder;
    o->motion = f->motion;
    o->seed = (uint64_t)f->seed;
    o->loaders = (int)f->loaders;
    o->cache_bytes = (size_t)f->cache;
    o->save_minutes = f->save_minutes;
    o->resume = f->resume;
    o->dump = f->dump;
}

static int parse(struct flags *f, int argc, char **argv, const char **target, struct err *e)
{
    const struct opt opts[] = {
        {"data", 'd', OPT_MULTI, &f->data, "DIR",
         "folder of labelled pictures or clips, DIR@WEIGHT to weigh it; repeat"},
        {"output", 'o', OPT_STR, &f->out, "DIR", "where the run lives: checkpoint, best model, log"},
        {"init", 0, OPT_STR, &f->init, "FILE", "weights to start from: a model, a checkpoint, an ImageNet backbone"},
        {"resume", 0, OPT_BOOL, &f->resume, NULL, "go on from the checkpoint in the output folder"},
        {"arch", 0, OPT_STR, &f->arch, "NAME", "network"},
        {"stage", 0, OPT_STR, &f->stage, "image|video|paper", "stills, clips, or the published recipe step by step"},
        {"size", 0, OPT_INT, &f->size, "PX", "side of the square input; 0: the network's own"},
        {"batch", 0, OPT_INT, &f->batch, "N", "stills or clips in a step"},
        {"clip", 0, OPT_INT, &f->clip, "N", "frames of a clip"},
        {"epochs", 0, OPT_INT, &f->epochs, "N", "passes over the data"},
        {"steps", 0, OPT_INT, &f->steps, "N", "stop after this many steps; 0: no limit"},
        {"max-minutes", 0, OPT_FLOAT, &f->max_minutes, "N", "end the schedule when the time is up; 0: no limit"},
        {"lr", 0, OPT_FLOAT, &f->lr, "RATE", "learning rate"},
        {"backbone-scale", 0, OPT_FLOAT, &f->backbone_scale, "X", "the backbone's share of the learning rate"},
        {"freeze", 0, OPT_STR, &f->freeze, "PREFIX,...",
         "parameters that stay as they are, by the start of their names"},
        {"weight-decay", 0, OPT_FLOAT, &f->weight_decay, "X", "decoupled weight decay"},
        {"clip-norm", 0, OPT_FLOAT, &f->clip_norm, "X", "largest gradient norm; 0: no clipping"},
        {"warmup", 0, OPT_FLOAT, &f->warmup, "SHARE", "share of the schedule spent warming up"},
        {"ema", 0, OPT_FLOAT, &f->ema, "DECAY", "decay of the weight average; 0: none"},
        {"patience", 0, OPT_INT, &f->patience, "EPOCHS", "stop after so many epochs without improvement; 0: never"},
        {"loss", 0, OPT_STR, &f->loss, "NAME", "bce, bce+iou, bce+iou+ssim or structure"},
        {"val-fraction", 0, OPT_FLOAT, &f->val_fraction, "SHARE", "share of the data held out for validation"},
        {"composite", 0, OPT_FLOAT, &f->composite, "P", "how often an object is pasted over another photo"},
        {"zoom-out", 0, OPT_FLOAT, &f->zoom_out, "P", "how often a still is shown smaller, mirrored around itself"},
        {"occluder", 0, OPT_FLOAT, &f->occluder, "P", "how often something passes in front"},
        {"motion", 0, OPT_FLOAT, &f->motion, "X", "scale of synthetic motion"},
        {"seed", 0, OPT_INT, &f->seed, "N", "seed of everything random"},
        {"loaders", 0, OPT_INT, &f->loaders, "N", "threads that prepare batches"},
        {"cache", 0, OPT_SIZE, &f->cache, "BYTES", "decoded pictures kept in memory"},
        {"save-minutes", 0, OPT_FLOAT, &f->save_minutes, "N",
         "checkpoint inside an epoch this often; 0: only at its end"},
        {"dump-grads", 0, OPT_STR, &f->dump, "FILE",
         "write loss and gradients of the first step (float64, no dropout) as safetensors and stop"},
        {"device", 0, OPT_STR, &f->device, "cpu|cuda[:N]", "where to compute"},
        {"threads", 0, OPT_INT, &f->threads, "N", "threads inside an operation; 0: one per core"},
        {0},
    };
    const struct opt_cmd cmd = {.name = "salient train",
                                .usage = "detector|fgplg --data DIR... -o DIR",
                                .opts = opts,
                                .summary = "Trains a saliency detector or a flow-guided pseudo-label generator."};
    size_t npos = 0;
    int rc = opt_parse(&cmd, argc, argv, target, 1, &npos, e);
    if (!rc && npos != 1)
        rc = err_set(e, ERR_INVALID, "say what to train: detector or fgplg");
    return rc;
}

static int pick_stage(const char *text, enum train_stage *out, struct err *e)
{
    static const char *const names[] = {[TRAIN_IMAGE] = "image", [TRAIN_VIDEO] = "video", [TRAIN_PAPER] = "paper"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (!strcmp(text, names[i])) {
            *out = (enum train_stage)i;
            return 0;
        }
    return err_set(e, ERR_INVALID, "stage '%s' is not image, video or paper", text);
}

/* Stage and target decide the defaults of the other flags, so the line is read once for them and once for everything.
 */
static int read_line(int argc, char **argv, struct flags *f, struct train_opts *o, struct err *e)
{
    const char *target = NULL;
    enum train_stage stage = TRAIN_IMAGE;
    struct flags first = {.stage = "image", .device = "cpu"};
    struct train_opts d = train_defaults(TRAIN_DETECTOR, TRAIN_IMAGE);
    fill_defaults(&first, &d);
    int rc = parse(&first, argc, argv, &target, e);
    if (!rc)
        rc = pick_stage(first.stage, &stage, e);
    if (rc)
        return rc;
    if (strcmp(target, "detector") != 0 && strcmp(target, "fgplg") != 0)
        return err_set(e, ERR_INVALID, "cannot train '%s': detector or fgplg", target);
    *o = train_defaults(strcmp(target, "fgplg") ? TRAIN_DETECTOR : TRAIN_FGPLG, stage);
    *f = (struct flags){.stage = "image", .device = "cpu"};
    fill_defaults(f, o);
    rc = parse(f, argc, argv, &target, e);
    if (!rc)
        rc = tensor_device_parse(f->device, &o->device, e);
    fill_opts(o, f);
    return rc;
}

int cmd_train(int argc, char **argv)
{
    struct err e = {0};
    struct flags f;
    struct train_opts o;
    struct train_result result = {0};
    struct terminal t = {.tty = isatty(STDERR_FILENO)};
    int rc = read_line(argc, argv, &f, &o, &e);
    if (rc > 0)
        return 0;
    if (!rc) {
        int cores = (int)sysconf(_SC_NPROCESSORS_ONLN), threads = f.threads > 0 ? (int)f.threads
                                                                  : cores > 0   ? cores
                                                                                : 1;
        tensor_set_threads(threads);
        par_init(threads);
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        struct train_hooks hooks = {.arg = &t, .progress = show_progress, .log = show_line, .cancel = cancel};
        rc = train_run(&o, &hooks, &result, &e);
    }
    if (rc) {
        fprintf(stderr, "salient train: %s\n", e.msg);
        return 1;
    }
    fprintf(stderr, "%d epochs; best epoch %d: S %.4f, MAE %.4f; model in %s\n", result.epochs, result.best_epoch,
            result.best_s_measure, result.best_mae, o.out);
    return 0;
}
