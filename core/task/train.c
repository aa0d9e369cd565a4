/*
 * The training task: open the data, make the state, then epochs of steps, each epoch closed by validation, the best
 * model on disk, a line in the journal and a checkpoint, in that order. A run killed anywhere goes on from its last
 * checkpoint and repeats what came after it with the same random numbers, because every sample and every step derives
 * its own from its number.
 *
 * Left out: training on several devices; mixed precision (the CPU gains nothing from it).
 */
#include "core/task/train.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/net/model.h"
#include "core/task/train_report.h"
#include "core/train/dataset.h"
#include "core/train/journal.h"
#include "core/train/loader.h"
#include "core/train/loss.h"
#include "core/train/sampler.h"
#include "core/train/state.h"
#include "core/train/validate.h"

#define CHECK_SAMPLES 64   /* pictures looked at before training starts */
#define VALIDATE_LIMIT 240 /* pictures of the held-out part measured after an epoch */
#define LOSS_LIMIT 1e4     /* a mean loss above this is divergence, not bad luck */

struct run {
    const struct train_opts *o;
    const struct train_hooks *hooks;
    const struct net_arch *arch;
    enum loss_kind loss;
    struct batch_shape shape;
    struct dataset data;
    struct sampler *sampler;
    struct loader *loader;
    struct train_state state;
    struct journal *journal;
    int64_t epoch_steps, total_steps;
    int64_t session_start_ms, saved_ms;
    double elapsed_before_ms; /* of earlier sessions */
    int64_t session_steps;
    char checkpoint[FS_PATH_MAX];
    struct validation scores;
    bool stopped_early;
};

struct train_opts train_defaults(enum train_target target, enum train_stage stage)
{
    struct train_opts o = {.target = target,
                           .stage = stage,
                           .batch = 8,
                           .clip = 1,
                           .epochs = 30,
                           .lr = 6e-4,
                           .backbone_scale = 0.3,
                           .weight_decay = 0.01,
                           .clip_norm = 2,
                           .warmup = 0.03,
                           .ema = 0.998,
                           .loss = "structure",
                           .val_fraction = 0.06,
                           .composite = 0.2,
                           .occluder = 0.05,
                           .motion = 1,
                           .seed = 1,
                           .loaders = 2,
                           .cache_bytes = (size_t)1 << 30,
                           .save_minutes = 10};
    o.arch = target == TRAIN_FGPLG ? "fgplg-lite" : "rcrnet-lite";
    if (stage == TRAIN_VIDEO) {
        o.batch = 2;
        o.clip = 4;
        o.lr = 3e-4;
        o.backbone_scale = 0.1;
        o.composite = 0.6;
        o.occluder = 0.15;
    }
    if (target == TRAIN_FGPLG) {
        o.composite = 0.6;
        o.occluder = 0.15;
    }
    if (stage == TRAIN_PAPER) {
        o.arch = target == TRAIN_FGPLG ? "fgplg-r50" : "rcrnet-r50";
        o.batch = 1;
        o.clip = target == TRAIN_FGPLG ? 1 : 4;
        o.epochs = 50;
        o.lr = 1e-5;
        o.backbone_scale = 1;
        o.weight_decay = o.clip_norm = o.warmup = o.ema = 0;
        o.composite = o.zoom_out = o.occluder = 0;
        o.loss = "bce";
    }
    return o;
}

/* ---- setting up
 * ------------------------------------------------------------------------------------------------------ */

static int check_opts(const struct train_opts *o, struct err *e)
{
    if (!o->n_data)
        return err_set(e, ERR_INVALID, "no data folder given");
    if (!o->out || !*o->out)
        return err_set(e, ERR_INVALID, "no output folder given");
    if (o->batch < 1 || o->clip < 1 || o->clip > 32 || o->epochs < 1 || o->loaders < 1)
        return err_set(e, ERR_INVALID,
                       "batch %d, clip %d, epochs %d and loader threads %d must be at least 1 (clips at most 32)",
                       o->batch, o->clip, o->epochs, o->loaders);
    if (o->size && (o->size < 32 || o->size > 1024 || o->size % 16))
        return err_set(e, ERR_INVALID, "size %d is not a multiple of 16 from 32 to 1024", o->size);
    if (!(o->lr > 0) || !(o->ema >= 0 && o->ema < 1) || !(o->warmup >= 0 && o->warmup < 1))
        return err_set(e, ERR_INVALID, "learning rate %g, average %g or warm-up %g out of range", o->lr, o->ema,
                       o->warmup);
    return 0;
}

/* "DIR" or "DIR@WEIGHT"; a folder whose own name holds an @ wins. */
static int add_data(struct dataset *d, const char *spec, struct err *e)
{
    char dir[FS_PATH_MAX];
    const char *at = strrchr(spec, '@');
    char *end;
    if (fs_is_dir(spec) || !at)
        return dataset_add(d, spec, 1, e);
    double weight = strtod(at + 1, &end);
    if (end == at + 1 || *end || !(weight > 0 && weight <= 100) || (size_t)(at - spec) >= sizeof(dir))
        return err_set(e, ERR_INVALID, "'%s' is neither a folder nor DIR@WEIGHT with a weight in (0, 100]", spec);
    memcpy(dir, spec, (size_t)(at - spec));
    dir[at - spec] = 0;
    return dataset_add(d, dir, weight, e);
}

static int open_data(struct run *r, struct err *e)
{
    const struct train_opts *o = r->o;
    int rc = dataset_init(&r->data, r->shape.size * 3 / 2, o->cache_bytes, e);
    for (size_t i = 0; !rc && i < o->n_data; i++)
        rc = add_data(&r->data, o->data[i], e);
    if (!rc)
        rc = dataset_split(&r->data, o->val_fraction, o->seed, e);
    return rc ? rc : dataset_check(&r->data, CHECK_SAMPLES, e);
}

static int open_sampler(struct run *r, struct err *e)
{
    const struct train_opts *o = r->o;
    struct sampler_opts so = {.kind = SAMPLER_STILLS,
                              .shape = r->shape,
                              .loss = r->loss,
                              .seed = o->seed,
                              .plain = o->stage == TRAIN_PAPER,
                              .in_order = o->stage == TRAIN_PAPER && o->dump};
    so.epoch_samples = (uint64_t)o->epoch_steps * (uint64_t)o->batch;
    so.plain_flow = strcmp(o->arch, "fgplg-lite") != 0;
    if (o->target == TRAIN_FGPLG)
        so.kind = SAMPLER_GUIDED;
    else if (o->clip > 1)
        so.kind = SAMPLER_CLIPS;
    so.shot = (struct shot_opts){.composite = o->composite,
                                 .occluder = o->occluder,
                                 .speed = o->motion,
                                 .bend = 1,
                                 .motion_blur = so.plain ? 0 : 0.15,
                                 .zoom_out = o->zoom_out,
                                 .colour = so.plain ? 0 : 1,
                                 .crop = !so.plain};
    memcpy(so.mean, r->arch->mean, sizeof(so.mean));
    memcpy(so.std, r->arch->std, sizeof(so.std));
    int rc = sampler_new(&r->data, &so, &r->sampler, e);
    if (rc)
        return rc;
    r->epoch_steps = (int64_t)(sampler_epoch_samples(r->sampler) / (uint64_t)o->batch);
    r->total_steps = r->epoch_steps * o->epochs;
    return 0;
}

/* What must be equal for a checkpoint to be continued. */
static uint64_t run_fingerprint(const struct run *r)
{
    const struct train_opts *o = r->o;
    char text[1024];
    int n = snprintf(text, sizeof(text),
                     "%s %s %d %d %d %d %d %d %d %.9g %.9g %.9g %.9g %.9g %.9g %s %.9g %.9g %.9g %.9g %llu %.9g %d",
                     o->arch, o->freeze ? o->freeze : "-", (int)o->target, (int)o->stage, r->shape.size, o->batch,
                     o->clip, o->epochs, o->init != NULL, o->lr, o->backbone_scale, o->weight_decay, o->clip_norm,
                     o->warmup, o->ema, o->loss, o->composite, o->zoom_out, o->occluder, o->motion,
                     (unsigned long long)o->seed, o->max_minutes, o->epoch_steps);
    uint64_t h = dataset_fingerprint(&r->data);
    for (int i = 0; i < n && i < (int)sizeof(text); i++)
        h = (h ^ (unsigned char)text[i]) * UINT64_C(0x100000001B3);
    return h;
}

static int open_state(struct run *r, struct err *e)
{
    const struct train_opts *o = r->o;
    struct train_state_opts so = {.init = o->init,
                                  .train_image_only = o->stage == TRAIN_IMAGE,
                                  .ema = o->dump ? 0 : o->ema,
                                  .doubles = o->dump != NULL,
                                  .backbone_scale = o->backbone_scale,
                                  .freeze = o->freeze,
                                  .seed = o->seed,
                                  .device = o->device};
    so.optim = (struct optim_opts){.kind = OPTIM_ADAM,
                                   .lr = o->lr,
                                   .beta1 = 0.9,
                                   .beta2 = 0.999,
                                   .eps = 1e-8,
                                   .weight_decay = o->weight_decay,
                                   .adamw = true};
    int rc = train_state_init(&r->state, r->arch, &so, e);
    if (rc)
        return rc;
    r->state.at.fingerprint = run_fingerprint(r);
    if (o->resume && fs_exists(r->checkpoint))
        rc = train_state_load(&r->state, r->checkpoint, e);
    r->elapsed_before_ms = r->state.at.elapsed_ms;
    return rc;
}

/* A checkpoint replaces the one before it only when it is complete, so there must be room for both, and for the model. */
static int check_room(const struct run *r, struct err *e)
{
    int64_t values = 0, free_bytes = fs_free_bytes(r->o->out);
    for (size_t i = 0; i < weights_count(r->state.weights); i++)
        values += tensor_numel(weights_at(r->state.weights, i));
    int64_t checkpoint = values * 4 * (r->state.average ? 4 : 3); /* weights, their average, two moments */
    int64_t need = checkpoint * (fs_exists(r->checkpoint) ? 1 : 2) + values * 4;
    if (free_bytes >= 0 && free_bytes < need)
        return err_set(e, ERR_FULL, "%s: checkpoints and the model need %lld MB, the file system has %lld MB free",
                       r->o->out, (long long)(need >> 20), (long long)(free_bytes >> 20));
    return 0;
}

/* What a run that was killed had half written. */
static void drop_leftovers(const char *out)
{
    static const char *const names[] = {"checkpoint.safetensors", "model.safetensors", "model.json"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        fs_drop_leftovers(out, names[i]);
}

static int run_open(struct run *r, struct err *e)
{
    const struct train_opts *o = r->o;
    int rc = check_opts(o, e);
    if (!rc)
        rc = net_arch_parse(o->arch, &r->arch, e);
    if (!rc)
        rc = loss_parse(o->loss, &r->loss, e);
    if (rc)
        return rc;
    if ((o->target == TRAIN_FGPLG) != (r->arch->in_channels == 7))
        return err_set(e, ERR_INVALID, "%s is not a network for this target", o->arch);
    r->shape = (struct batch_shape){.samples = o->batch,
                                    .frames = o->clip,
                                    .channels = r->arch->in_channels,
                                    .size = o->size ? o->size : r->arch->input_px};
    rc = fs_mkdirs(o->out, e);
    if (!rc)
        drop_leftovers(o->out);
    if (!rc)
        rc = fs_join(r->checkpoint, o->out, "checkpoint.safetensors", e);
    if (!rc)
        rc = open_data(r, e);
    if (!rc)
        rc = open_sampler(r, e);
    if (!rc)
        rc = open_state(r, e);
    if (!rc)
        rc = check_room(r, e);
    if (!rc)
        rc = journal_open(o->out, r->state.at.step ? r->state.at.epoch : -1, &r->journal, e);
    if (!rc)
        rc = loader_new(r->shape, sampler_make, r->sampler, o->loaders, 3, (uint64_t)r->state.at.step, &r->loader, e);
    return rc;
}

static void run_close(struct run *r)
{
    loader_free(r->loader);
    journal_close(r->journal);
    train_state_fini(&r->state);
    sampler_free(r->sampler);
    dataset_fini(&r->data);
}

/* ---- a step
 * ---------------------------------------------------------------------------------------------------------- */

static double elapsed_ms(const struct run *r)
{
    return r->elapsed_before_ms + (double)(clock_mono_ms() - r->session_start_ms);
}

/* 0..1 through the schedule: by steps, or by the clock when that is ahead. */
static double progress(const struct run *r)
{
    double by_steps = (double)r->state.at.step / (double)r->total_steps;
    double by_clock = r->o->max_minutes > 0 ? elapsed_ms(r) / (r->o->max_minutes * 60000) : 0;
    return fmin(1, fmax(by_steps, by_clock));
}

/* Linear warm-up, then half a cosine down to a hundredth; the paper's stage keeps its rate. */
static double learning_rate(const struct run *r)
{
    const struct train_opts *o = r->o;
    double p = progress(r);
    if (o->stage == TRAIN_PAPER)
        return o->lr;
    if (p < o->warmup)
        return o->lr * (0.02 + 0.98 * p / o->warmup);
    double c = cos(3.14159265358979323846 * (p - o->warmup) / (1 - o->warmup));
    return o->lr * (0.01 + 0.99 * 0.5 * (1 + c));
}

static struct tensor *batch_loss(struct run *r, struct scope *s, const struct batch *b)
{
    const struct batch_shape *h = &r->shape;
    int64_t n = (int64_t)h->samples * h->frames;
    int64_t in[4] = {n, h->channels, h->size, h->size}, out[4] = {n, 1, h->size, h->size}, per[4] = {n, 1, 1, 1};
    struct tensor *x = tensor_channels_last(s, tensor_from(s, b->input, TENSOR_F32, 4, in));
    struct tensor *target = tensor_from(s, b->target, TENSOR_F32, 4, out);
    struct tensor *weight = tensor_from(s, b->weight, TENSOR_F32, 4, out);
    struct tensor *trust = tensor_from(s, b->sample_weight, TENSOR_F32, 4, per);
    if (r->o->dump) { /* a reference must not differ by rounding: see train_step.h */
        struct tensor **all[] = {&x, &target, &weight, &trust};
        for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
            *all[i] = tensor_to(s, *all[i], TENSOR_F64);
    }
    bool image = r->o->stage == TRAIN_IMAGE;
    struct net_mode mode = {.bn = image ? NET_BN_BATCH : NET_BN_FROZEN,
                            .frozen = r->o->init ? r->arch->backbone : NULL,
                            .clip = h->frames,
                            .no_dropout = r->o->dump != NULL};
    scope_set_grad(s, true);
    struct tensor *logits = h->frames > 1 ? net_video(r->arch, r->state.weights, s, x, mode)
                                          : net_image(r->arch, r->state.weights, s, x, mode);
    return loss_saliency(s, r->loss, logits, target, weight, trust);
}

static int step(struct run *r, const struct batch *b, double *loss, double *norm, struct err *e)
{
    struct scope *s = scope_new(r->state.root, r->o->device);
    if (!s)
        return err_set(e, ERR_NOMEM, "training step: out of memory");
    tensor_seed(r->o->seed * 1000003 + (uint64_t)r->state.at.step);
    struct tensor *l = batch_loss(r, s, b);
    *loss = tensor_item(s, l);
    optim_zero_grad(r->state.optim);
    tensor_backward(s, l);
    int rc = scope_status(s, e);
    if (!rc && !(fabs(*loss) < LOSS_LIMIT))
        rc = err_set(e, ERR_COMPUTE, "the loss is %g at step %lld: diverged; try a lower learning rate than %g", *loss,
                     (long long)r->state.at.step + 1, r->o->lr);
    if (!rc && r->o->dump)
        rc = train_report_gradients(&r->state, s, *loss, r->o->dump, e);
    scope_free(s);
    if (rc)
        return rc;
    optim_set_lr(r->state.optim, learning_rate(r));
    rc = optim_step(r->state.optim, r->o->clip_norm, norm, e);
    if (rc)
        return err_wrap(e, "step %lld", (long long)r->state.at.step + 1);
    r->state.at.step++;
    return train_state_average(&r->state, e);
}

/* ---- an epoch
 * -------------------------------------------------------------------------------------------------------- */

static int save(struct run *r, struct err *e)
{
    r->state.at.elapsed_ms = elapsed_ms(r);
    r->saved_ms = clock_mono_ms();
    int rc = train_state_save(&r->state, r->checkpoint, e);
    if (!rc && r->hooks && r->hooks->saved)
        r->hooks->saved(r->hooks->arg);
    return rc;
}

static void report(struct run *r)
{
    const struct train_position *at = &r->state.at;
    if (!r->hooks || !r->hooks->progress)
        return;
    double seconds = (double)(clock_mono_ms() - r->session_start_ms) / 1000;
    struct train_progress p = {.epoch = at->epoch + 1,
                               .epochs = r->o->epochs,
                               .step = at->step,
                               .steps = r->total_steps,
                               .loss = at->loss_n ? at->loss_sum / (double)at->loss_n : 0,
                               .lr = learning_rate(r)};
    p.samples_per_s = seconds > 0 ? (double)r->session_steps * r->o->batch / seconds : 0;
    r->hooks->progress(r->hooks->arg, &p);
}

static bool time_is_up(const struct run *r)
{
    return r->o->max_minutes > 0 && elapsed_ms(r) >= r->o->max_minutes * 60000;
}

static bool steps_are_up(const struct run *r)
{
    return r->o->max_steps > 0 && r->state.at.step >= r->o->max_steps;
}

static int train_epoch(struct run *r, struct err *e)
{
    int64_t end = ((int64_t)r->state.at.epoch + 1) * r->epoch_steps;
    double norm;
    int64_t begin = r->state.at.step;
    while (r->state.at.step < end && !time_is_up(r) && !steps_are_up(r) && !(r->o->dump && r->state.at.step > begin)) {
        const struct batch *b;
        double loss = 0;
        if (r->hooks && r->hooks->cancel && r->hooks->cancel(r->hooks->arg)) {
            int rc = save(r, e);
            return rc ? rc : err_set(e, ERR_CANCELED, "training canceled at step %lld", (long long)r->state.at.step);
        }
        int rc = loader_next(r->loader, &b, e);
        if (!rc)
            rc = step(r, b, &loss, &norm, e);
        if (rc)
            return rc;
        r->state.at.loss_sum += loss;
        r->state.at.loss_n++;
        r->session_steps++;
        report(r);
        if (r->o->save_minutes > 0 && (double)(clock_mono_ms() - r->saved_ms) > r->o->save_minutes * 60000 &&
            (rc = save(r, e)))
            return rc;
    }
    return 0;
}

static int save_best(struct run *r, struct err *e)
{
    char training[2048], metrics[512];
    train_report_json(r->o, &r->state, &r->data, &r->scores, training, sizeof(training), metrics, sizeof(metrics));
    struct model_meta meta = {.name = r->arch->name,
                              .version = "1",
                              .arch = r->arch,
                              .input_px = r->shape.size,
                              .training = training,
                              .metrics = metrics};
    int rc = model_save(r->o->out, &meta, train_state_best(&r->state), TENSOR_F16, e);
    return rc == ERR_INVALID || rc == ERR_LIMIT || rc == ERR_COMPUTE
               ? err_wrap(e, "the weights have diverged; try a lower learning rate than %g", r->o->lr)
               : rc;
}

static int close_epoch(struct run *r, struct err *e)
{
    struct train_position *at = &r->state.at;
    bool video = r->shape.frames > 1;
    int rc = validate(r->arch, train_state_best(&r->state), r->sampler, r->shape, VALIDATE_LIMIT, video, r->o->device,
                      &r->scores, e);
    if (rc)
        return rc;
    double loss = at->loss_n ? at->loss_sum / (double)at->loss_n : NAN, rate = learning_rate(r);
    at->epoch++;
    at->loss_sum = 0;
    at->loss_n = 0;
    at->elapsed_ms = elapsed_ms(r);
    if (!r->scores.n || !at->best_epoch || r->scores.s_measure > at->best_s_measure) {
        at->best_epoch = at->epoch;
        at->best_s_measure = r->scores.s_measure;
        at->best_mae = r->scores.mae;
        rc = save_best(r, e);
    }
    const struct journal_value v[] = {
        {"loss", loss},
        {"lr", rate},
        {"val_s_measure", r->scores.s_measure},
        {"val_mae", r->scores.mae},
        {"val_max_f", r->scores.max_f},
        {"best_s_measure", at->best_s_measure},
        {"elapsed_s", at->elapsed_ms / 1000},
    };
    const char *line = NULL;
    if (!rc)
        rc = journal_write(r->journal, at->epoch, at->step, v, sizeof(v) / sizeof(v[0]), &line, e);
    if (!rc && r->hooks && r->hooks->log)
        r->hooks->log(r->hooks->arg, line);
    return rc ? rc : save(r, e);
}

static int run_epochs(struct run *r, struct err *e)
{
    const struct train_position *at = &r->state.at;
    /* A run whose time was up before its first epoch was closed still leaves a model. */
    while (at->epoch < r->o->epochs && (!at->best_epoch || (!time_is_up(r) && !steps_are_up(r)))) {
        int rc = train_epoch(r, e);
        if (rc || r->o->dump)
            return rc;
        rc = close_epoch(r, e);
        if (rc)
            return rc;
        if (r->o->patience > 0 && at->epoch - at->best_epoch >= r->o->patience) {
            r->stopped_early = true;
            break;
        }
    }
    return 0;
}

int train_run(const struct train_opts *o, const struct train_hooks *hooks, struct train_result *result, struct err *e)
{
    struct run *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_NOMEM, "training: out of memory");
    r->o = o;
    r->hooks = hooks;
    r->session_start_ms = r->saved_ms = clock_mono_ms();
    int rc = run_open(r, e);
    if (!rc)
        rc = run_epochs(r, e);
    if (!rc && result)
        *result = (struct train_result){.epochs = r->state.at.epoch,
                                        .best_epoch = r->state.at.best_epoch,
                                        .best_s_measure = r->state.at.best_s_measure,
                                        .best_mae = r->state.at.best_mae,
                                        .stopped_early = r->stopped_early};
    run_close(r);
    free(r);
    return rc;
}
