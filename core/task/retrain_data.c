/* retrain: pictures and masks as the trainer and the evaluation read them, and the recipe of fine-tuning. */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "core/media/image.h"
#include "core/task/retrain.h"

#define JPEG_QUALITY 95
#define MASK_MAX_BYTES ((size_t)64 << 20)

int retrain_dirs_make(const char *root, struct retrain_dirs *d, struct err *e)
{
    snprintf(d->root, sizeof(d->root), "%s", root);
    int rc = fs_join(d->data, root, "data", e);
    if (!rc)
        rc = fs_join(d->run, root, "run", e);
    if (!rc)
        rc = fs_join(d->gt, root, "gt", e);
    if (!rc)
        rc = fs_join(d->champion, root, "champion", e);
    if (!rc)
        rc = fs_join(d->challenger, root, "challenger", e);
    const char *const all[] = {d->data, d->run, d->gt, d->champion, d->challenger};
    for (size_t i = 0; !rc && i < sizeof(all) / sizeof(all[0]); i++)
        rc = fs_mkdirs(all[i], e);
    return rc;
}

/* ---- extracting ------------------------------------------------------------------------------------------------- */

static int path_of(char out[FS_PATH_MAX], const char *dir, const char *sub, int64_t frame, const char *extension,
                   struct err *e)
{
    int n = snprintf(out, FS_PATH_MAX, "%s%s/%05lld%s", dir, sub, (long long)frame, extension);
    return n < FS_PATH_MAX ? 0 : err_set(e, ERR_LIMIT, "path too long: %.100s", dir);
}

static int put_mask(const struct retrain_label *l, struct blobs *b, const char *dir, const char *sub, struct err *e)
{
    char path[FS_PATH_MAX], key[MASK_KEY_SIZE];
    struct buf png = BUF_INIT;
    mask_key(l->sha256, key);
    int rc = path_of(path, dir, sub, l->frame, ".png", e);
    if (!rc)
        rc = blob_get(b, key, MASK_MAX_BYTES, &png, e);
    if (!rc)
        rc = fs_write_atomic(path, png.data, png.len, e);
    buf_free(&png);
    return rc;
}

static int put_picture(const struct frame *f, const char *dir, int64_t frame, struct err *e)
{
    char path[FS_PATH_MAX];
    struct buf jpeg = BUF_INIT;
    int rc = path_of(path, dir, "/images", frame, ".jpg", e);
    if (!rc)
        rc = image_encode_jpeg(f, JPEG_QUALITY, &jpeg, e);
    if (!rc)
        rc = fs_write_atomic(path, jpeg.data, jpeg.len, e);
    buf_free(&jpeg);
    return rc;
}

/* labels.json as core/train/provenance.h reads it. */
static int put_labels(const struct retrain_clip *c, const char *dir, struct err *e)
{
    char path[FS_PATH_MAX], stem[24];
    json_t *list = json_array();
    for (size_t i = 0; i < c->n; i++) {
        const struct retrain_label *l = &c->labels[i];
        snprintf(stem, sizeof(stem), "%05lld", (long long)l->frame);
        if (l->part == RETRAIN_TRAIN)
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:f}", "frame", stem, "source", l->source, "state",
                                                  l->state, "confidence", l->confidence));
    }
    char *text = json_dumps(list, JSON_COMPACT);
    int rc = fs_join(path, dir, "labels.json", e);
    if (!rc)
        rc = text ? fs_write_atomic(path, text, strlen(text), e) : err_set(e, ERR_NOMEM, "%s", path);
    free(text);
    json_decref(list);
    return rc;
}

static int clip_dirs(const struct retrain_clip *c, const struct retrain_dirs *d, char train[FS_PATH_MAX],
                     char gt[FS_PATH_MAX], struct err *e)
{
    char sub[FS_PATH_MAX];
    int rc = fs_join(train, d->data, c->id, e);
    if (!rc)
        rc = fs_join(gt, d->gt, c->id, e);
    if (!rc && c->n_held)
        rc = fs_mkdirs(gt, e);
    if (!rc)
        rc = fs_join(sub, train, "images", e);
    if (!rc && c->n_train)
        rc = fs_mkdirs(sub, e);
    if (!rc)
        rc = fs_join(sub, train, "masks", e);
    if (!rc && c->n_train)
        rc = fs_mkdirs(sub, e);
    return rc;
}

/* Decodes up to the last picture that trains. */
static int extract_pictures(const struct retrain_clip *c, const char *video, const struct clip_limits *limits,
                            const char *dir, bool (*canceled)(void *arg), void *arg, struct err *e)
{
    struct clip *clip = NULL;
    size_t at = 0;
    int rc = clip_open(video, limits, &clip, e);
    for (size_t left = c->n_train; !rc && left > 0;) {
        struct frame *f = NULL;
        int got = clip_next(clip, &f, e);
        if (got <= 0)
            rc = got ? got : err_set(e, ERR_CORRUPT, "clip %s has fewer frames than labels", c->id);
        while (got == 1 && at < c->n && c->labels[at].frame < f->ordinal)
            at++;
        if (got == 1 && at < c->n && c->labels[at].frame == f->ordinal && c->labels[at].part == RETRAIN_TRAIN) {
            rc = put_picture(f, dir, f->ordinal, e);
            left--;
        }
        frame_unref(f);
        if (!rc && canceled && canceled(arg))
            rc = err_set(e, ERR_CANCELED, "canceled");
    }
    clip_close(clip);
    return rc;
}

int retrain_extract(const struct retrain_clip *c, struct blobs *b, const char *video, const struct clip_limits *limits,
                    const struct retrain_dirs *d, bool (*canceled)(void *arg), void *arg, struct err *e)
{
    char train[FS_PATH_MAX], gt[FS_PATH_MAX];
    int rc = clip_dirs(c, d, train, gt, e);
    for (size_t i = 0; !rc && i < c->n; i++) {
        if (c->labels[i].part == RETRAIN_TRAIN)
            rc = put_mask(&c->labels[i], b, train, "/masks", e);
        else if (c->labels[i].part == RETRAIN_HELD_OUT)
            rc = put_mask(&c->labels[i], b, gt, "", e);
    }
    if (!rc && c->n_train)
        rc = put_labels(c, train, e);
    if (!rc && c->n_train)
        rc = extract_pictures(c, video, limits, train, canceled, arg, e);
    return rc;
}

/* ---- the recipe ------------------------------------------------------------------------------------------------- */

/* What stays as it is, by architecture: the first layers see edges and colours everywhere alike and cost most, having the
 * largest maps; of lite also the dilated depthwise kernels, whose gradients have no fast code (tests/bench/RESULTS.md). */
static const struct {
    const char *arch, *freeze;
} frozen[] = {
    {"rcrnet-lite", "backbone.effnet.conv_stem,backbone.effnet.bn0,backbone.effnet.blocks.0.,backbone.effnet.blocks.1.,"
                    "backbone.effnet.blocks.2.,backbone.effnet.blocks.11.depthwise_conv,"
                    "backbone.effnet.blocks.12.depthwise_conv,backbone.effnet.blocks.13.depthwise_conv,"
                    "backbone.effnet.blocks.14.depthwise_conv"},
    {"rcrnet-r50", "backbone.resnet.conv1,backbone.resnet.bn1,backbone.resnet.layer1."},
};

/* Whether the champion's temporal module never learned, so that frames can be trained on one by one: four neighbours
 * teach little more than one frame, and cost four times as much. */
static bool learned_from_stills(const struct registry_version *champion)
{
    json_t *info = json_loads(champion->info ? champion->info : "{}", 0, NULL);
    const json_t *clip = json_object_get(json_object_get(info, "training"), "clip");
    bool stills = json_is_integer(clip) && json_integer_value(clip) == 1;
    json_decref(info);
    return stills;
}

void retrain_recipe(const struct retrain_opts *o, const struct model_info *champion,
                    const struct registry_version *version, const char *init, const struct retrain_dirs *d,
                    const char **data, struct train_opts *out)
{
    bool stills = !champion->arch->has_video || learned_from_stills(version);
    data[0] = d->data;
    *out = train_defaults(TRAIN_DETECTOR, TRAIN_VIDEO);
    out->arch = champion->arch->name;
    out->data = data;
    out->n_data = 1;
    out->init = init;
    out->out = d->run;
    out->size = o->size ? (int)o->size : champion->input_px;
    out->clip = stills ? 1 : champion->arch->clip_length;
    out->batch = (int)o->batch / out->clip > 1 ? (int)o->batch / out->clip : 1;
    for (size_t i = 0; i < sizeof(frozen) / sizeof(frozen[0]); i++)
        if (strcmp(frozen[i].arch, out->arch) == 0)
            out->freeze = frozen[i].freeze;
    /* An epoch ends with a checkpoint of everything: neither after every handful of labels nor only at the end. */
    int64_t part = o->steps / 8 < 8 ? 8 : o->steps / 8 > 100 ? 100 : o->steps / 8;
    out->epoch_steps = (int)part;
    out->epochs = (int)((o->steps + part - 1) / part);
    out->max_steps = o->steps;
    out->max_minutes = o->minutes;
    out->lr = o->lr;
    out->val_fraction = 0; /* too few clips to hold out twice: the gate measures */
    out->ema = 0.98;       /* a few hundred steps: the average must not remember the champion */
    out->seed = (uint64_t)o->seed;
    out->save_minutes = 1;
    out->resume = true;
}
