/*
 * The detect job: three stages on bounded queues.
 *
 *   decode thread --frames--> infer (the caller's thread) --maps--> encode thread: PNG, sink, overlay, progress
 *
 * The first error of any stage is the job's error; it closes both queues, which ends the other stages. What is still
 * queued is freed by the stage that pops it or, after the join, by detect_run. With an overlay the infer stage keeps a
 * reference to each frame from its push until its map is emitted; the detector holds few frames, so that list is short.
 */
#include "core/task/detect.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/queue.h"
#include "core/media/image.h"
#include "core/media/overlay.h"
#include "core/net/detector.h"

#define FRAMES_AHEAD 4
#define MAPS_AHEAD 4

/* One frame's result on its way to the encoder. */
struct mapped {
    struct frame *map; /* GRAY8; carries the ordinal */
    struct frame *rgb; /* NULL without an overlay */
};

struct waiting { /* a frame whose map has not come yet */
    struct frame *frame;
    struct waiting *next;
};

struct detect_job {
    const struct detect_opts *opts;
    struct detect_result *result;
    struct clip *clip;
    struct detector *detector;
    struct overlay *overlay;
    struct frame_pool *maps_pool;
    struct queue *frames, *maps;
    struct waiting *first_waiting, **last_waiting;
    pthread_mutex_t lock; /* guards error and total */
    struct err error;
    int64_t total;
    int64_t emit_ms; /* part of a push spent waiting in emit */
};

/* ---- shared by the stages ------------------------------------------------------------------------------------------
 */

static void job_fail(struct detect_job *j, const struct err *e)
{
    pthread_mutex_lock(&j->lock);
    if (!j->error.code)
        j->error = *e;
    pthread_mutex_unlock(&j->lock);
    queue_close(j->frames);
    queue_close(j->maps);
}

static int job_poll(const struct detect_job *j, struct err *e)
{
    const struct detect_opts *o = j->opts;
    return o->canceled && o->canceled(o->canceled_arg) ? err_set(e, ERR_CANCELED, "canceled") : 0;
}

static void set_total(struct detect_job *j, int64_t total)
{
    pthread_mutex_lock(&j->lock);
    j->total = total;
    pthread_mutex_unlock(&j->lock);
}

static int64_t get_total(struct detect_job *j)
{
    pthread_mutex_lock(&j->lock);
    int64_t total = j->total;
    pthread_mutex_unlock(&j->lock);
    return total;
}

/* ---- decode --------------------------------------------------------------------------------------------------------
 */

static void *decode_stage(void *arg)
{
    struct detect_job *j = arg;
    struct err e = {0};
    struct frame *f = NULL;
    int rc;
    do {
        int64_t since = clock_mono_us();
        rc = job_poll(j, &e);
        if (rc == 0)
            rc = clip_next(j->clip, &f, &e);
        j->result->decode_ms += clock_mono_us() - since; /* microseconds until the end */
        if (rc > 0 && !queue_push(j->frames, f)) {
            frame_unref(f);
            return NULL;
        }
    } while (rc > 0);
    if (rc < 0)
        job_fail(j, &e);
    else
        set_total(j, clip_info(j->clip)->frames);
    queue_close(j->frames);
    return NULL;
}

/* ---- infer ---------------------------------------------------------------------------------------------------------
 */

static int wait_for_map(struct detect_job *j, struct frame *f, struct err *e)
{
    struct waiting *w = malloc(sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "out of memory");
    *w = (struct waiting){.frame = frame_ref(f)};
    *j->last_waiting = w;
    j->last_waiting = &w->next;
    return 0;
}

static struct frame *take_waiting(struct detect_job *j)
{
    struct waiting *w = j->first_waiting;
    if (!w)
        return NULL;
    struct frame *f = w->frame;
    j->first_waiting = w->next;
    if (!w->next)
        j->last_waiting = &j->first_waiting;
    free(w);
    return f;
}

static void mapped_free(struct mapped *m)
{
    if (!m)
        return;
    frame_unref(m->map);
    frame_unref(m->rgb);
    free(m);
}

static void copy_map(struct frame *to, const uint8_t *map)
{
    for (int y = 0; y < to->height_px; y++)
        memcpy(to->data + (size_t)y * (size_t)to->stride_bytes, map + (size_t)y * (size_t)to->width_px,
               (size_t)to->width_px);
}

static int on_map(void *arg, int64_t ordinal, const uint8_t *map, int width_px, int height_px, struct err *e)
{
    struct detect_job *j = arg;
    struct mapped *m = calloc(1, sizeof(*m));
    int rc = m ? frame_pool_get(j->maps_pool, FRAME_GRAY8, width_px, height_px, &m->map, e)
               : err_set(e, ERR_NOMEM, "out of memory");
    if (rc < 0) {
        mapped_free(m);
        return rc;
    }
    copy_map(m->map, map);
    m->map->ordinal = ordinal;
    m->rgb = take_waiting(j);
    BUG_ON(m->rgb && m->rgb->ordinal != ordinal);
    int64_t since = clock_mono_us();
    bool pushed = queue_push(j->maps, m);
    j->emit_ms += clock_mono_us() - since;
    if (pushed)
        return 0;
    mapped_free(m);
    return err_set(e, ERR_CANCELED, "another stage failed"); /* whose error came first */
}

static int infer_one(struct detect_job *j, struct frame *f, struct err *e)
{
    int64_t since = clock_mono_us();
    int rc = job_poll(j, e);
    if (rc == 0 && j->overlay)
        rc = wait_for_map(j, f, e);
    if (rc == 0)
        rc = detector_push(j->detector, f, e);
    j->result->infer_ms += clock_mono_us() - since;
    return rc;
}

static void infer_stage(struct detect_job *j)
{
    struct err e = {0};
    void *item;
    int rc = 0;
    while (rc == 0 && queue_pop(j->frames, &item)) {
        rc = infer_one(j, item, &e);
        frame_unref(item);
    }
    if (rc == 0) {
        int64_t since = clock_mono_us();
        rc = detector_finish(j->detector, &e);
        j->result->infer_ms += clock_mono_us() - since;
    }
    j->result->infer_ms -= j->emit_ms;
    if (rc < 0)
        job_fail(j, &e);
    queue_close(j->maps);
}

/* ---- encode --------------------------------------------------------------------------------------------------------
 */

static int encode_one(struct detect_job *j, const struct mapped *m, struct buf *png, struct err *e)
{
    const struct detect_sink *sink = &j->opts->sink;
    buf_reset(png);
    int rc = job_poll(j, e);
    if (rc == 0)
        rc = image_encode_png(m->map, IMAGE_PNG_FAST, png, e);
    if (rc == 0)
        rc = sink->map(sink->arg, m->map->ordinal, clip_frame_name(j->clip, m->map->ordinal), png->data, png->len, e);
    if (rc == 0 && j->overlay)
        rc = overlay_add(j->overlay, m->rgb, m->map->data, m->map->stride_bytes, e);
    return rc < 0 ? rc : 0;
}

static void *encode_stage(void *arg)
{
    struct detect_job *j = arg;
    struct err e = {0};
    struct buf png = BUF_INIT;
    void *item;
    int rc = 0;
    while (rc == 0 && queue_pop(j->maps, &item)) {
        int64_t since = clock_mono_us();
        rc = encode_one(j, item, &png, &e);
        mapped_free(item);
        j->result->encode_ms += clock_mono_us() - since;
        if (rc < 0)
            break;
        j->result->frames++;
        if (j->opts->progress)
            j->opts->progress(j->opts->progress_arg, j->result->frames, get_total(j));
    }
    if (rc < 0)
        job_fail(j, &e);
    buf_free(&png);
    return NULL;
}

/* ---- the job -------------------------------------------------------------------------------------------------------
 */

static int open_detector(struct detect_job *j, struct err *e)
{
    const struct detect_opts *o = j->opts;
    struct detector_opts d = {.size_px = o->size_px, .emit = on_map, .arg = j};
    if (!o->detector)
        return detector_open(o->model, d, &j->detector, e);
    detector_receiver(o->detector, &d);
    j->detector = o->detector;
    return 0;
}

static int open_stages(struct detect_job *j, struct err *e)
{
    const struct detect_opts *o = j->opts;
    int rc = clip_open(o->input, &o->limits, &j->clip, e);
    if (rc < 0)
        return rc;
    const struct clip_info *info = clip_info(j->clip);
    j->total = info->frames;
    if ((rc = open_detector(j, e)) < 0)
        return rc;
    if (o->overlay_path) {
        struct overlay_opts v = {.fps = info->fps};
        if ((rc = overlay_open(o->overlay_path, info->width_px, info->height_px, &v, &j->overlay, e)) < 0)
            return rc;
    }
    j->frames = queue_new(FRAMES_AHEAD);
    j->maps = queue_new(MAPS_AHEAD);
    j->maps_pool = frame_pool_new(0);
    if (!j->frames || !j->maps || !j->maps_pool)
        return err_set(e, ERR_NOMEM, "out of memory");
    return o->sink.begin ? o->sink.begin(o->sink.arg, info, e) : 0;
}

static int run_stages(struct detect_job *j, struct err *e)
{
    pthread_t decoder, encoder;
    if (pthread_create(&decoder, NULL, decode_stage, j) != 0)
        return err_set(e, ERR_NOMEM, "cannot start a thread");
    if (pthread_create(&encoder, NULL, encode_stage, j) != 0) {
        struct err failed = {.code = ERR_NOMEM, .msg = "cannot start a thread"};
        job_fail(j, &failed);
        pthread_join(decoder, NULL);
        *e = failed;
        return failed.code;
    }
    infer_stage(j);
    pthread_join(decoder, NULL);
    pthread_join(encoder, NULL);
    if (j->error.code) {
        if (e)
            *e = j->error;
        return j->error.code;
    }
    return j->overlay ? overlay_finish(j->overlay, e) : 0;
}

static void close_stages(struct detect_job *j)
{
    void *item;
    while (j->frames && queue_try_pop(j->frames, &item))
        frame_unref(item);
    while (j->maps && queue_try_pop(j->maps, &item))
        mapped_free(item);
    while (j->first_waiting)
        frame_unref(take_waiting(j));
    if (j->detector != j->opts->detector)
        detector_free(j->detector);
    overlay_close(j->overlay);
    clip_close(j->clip);
    queue_free(j->frames);
    queue_free(j->maps);
    frame_pool_free(j->maps_pool);
    pthread_mutex_destroy(&j->lock);
}

int detect_run(const struct detect_opts *opts, struct detect_result *result, struct err *e)
{
    struct detect_job j = {.opts = opts, .result = result, .lock = PTHREAD_MUTEX_INITIALIZER};
    int64_t since = clock_mono_ms();
    j.last_waiting = &j.first_waiting;
    *result = (struct detect_result){0};
    int rc = open_stages(&j, e);
    if (rc == 0)
        rc = run_stages(&j, e);
    if (j.clip)
        result->info = *clip_info(j.clip);
    result->wall_ms = clock_mono_ms() - since;
    result->decode_ms /= 1000;
    result->infer_ms /= 1000;
    result->encode_ms /= 1000;
    close_stages(&j);
    return rc;
}
