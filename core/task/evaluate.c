/*
 * The run: pairs are read and measured in batches by all threads, then folded in the order of frames, so results do not
 * depend on scheduling and memory holds one batch. Per-frame curves live in the batch only; units (sequences, and blocks
 * of a flat set) keep their mean curves.
 */
#include "core/task/evaluate_internal.h"

#include <math.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/media/frame.h"

enum { BATCH = 96, WORST_DEFAULT = 10, RESAMPLES_DEFAULT = 1000, RESAMPLES_MAX = 100000 };

/* One frame on its way from a worker to the fold. */
struct slot {
    struct metric_frame m;
    struct metric_shape shape;
    double stability; /* against the frame before, of the same sequence */
    int rc;
    struct err err;
};

struct run {
    struct evaluation *ev;
    const struct eval_frame *frames;
    const struct eval_sequence *sequences;
    struct metric_opts opts;
    struct metric_scratch **scratch; /* one a worker */
    int workers;
    struct slot *slots;         /* BATCH */
    struct metric_shape before; /* of the frame before the batch */
    size_t first, n;            /* items of the batch */
    atomic_size_t next;
    size_t zero_one, first_zero_one, nan, first_nan; /* for the notes */
};

void evaluation_note(struct evaluation *ev, const char *fmt, ...)
{
    char text[480];
    va_list ap;
    if (ev->n_notes == EVAL_NOTES_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if ((ev->notes[ev->n_notes] = strdup(text)))
        ev->n_notes++;
}

const char *eval_item_name(const struct evaluation *ev, const struct eval_item *item, char *out)
{
    const struct eval_frame *frames;
    const struct eval_sequence *sequences;
    eval_input_frames(ev->input, &frames);
    eval_input_sequences(ev->input, &sequences);
    const char *seq = sequences[item->sequence].name;
    snprintf(out, EVAL_NAME_SIZE, "%s%s%s", seq, *seq ? "/" : "", frames[item->frame].stem);
    return out;
}

/* ---- means ---------------------------------------------------------------------------------------------------------- */

static bool is_decay(int m)
{
    return m == METRIC_J_DECAY || m == METRIC_F_DECAY;
}

static double curve_max(const double *c)
{
    double best = c[0];
    for (int t = 1; t < METRIC_THRESHOLDS; t++)
        best = c[t] > best ? c[t] : best;
    return best;
}

/* Weight of a unit in the mean of metric m. */
static double weight(const struct protocol *p, const struct eval_unit *u, int m, int times)
{
    bool frames = p->value[CHOICE_AVERAGING] == AVERAGE_FRAMES || u->block;
    if (m == METRIC_TEMPORAL_STABILITY)
        return frames ? (double)times * (double)u->known_t : u->known_t ? times : 0;
    if (is_decay(m)) /* has a meaning within a sequence only */
        return times;
    return frames ? (double)times * (double)u->n : times;
}

static void combine_curve(const struct protocol *p, const struct eval_unit *u, size_t n, const int *times, int c,
                          double *out)
{
    double total = 0;
    memset(out, 0, METRIC_THRESHOLDS * sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        double w = weight(p, &u[i], METRIC_MEAN_F, times ? times[i] : 1);
        total += w;
        for (int t = 0; w > 0 && t < METRIC_THRESHOLDS; t++)
            out[t] += w * u[i].curve[c][t];
    }
    for (int t = 0; t < METRIC_THRESHOLDS; t++)
        out[t] /= total;
}

void eval_combine(const struct protocol *p, const struct eval_unit *u, size_t n, const int *times,
                  struct eval_unit *out)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        double sum = 0, total = 0;
        for (size_t i = 0; i < n; i++) {
            double w = weight(p, &u[i], m, times ? times[i] : 1);
            sum += w > 0 ? w * u[i].value[m] : 0; /* a NaN that counts makes the mean NaN */
            total += w;
        }
        out->value[m] = sum / total;
    }
    out->value[METRIC_JF_MEAN] = (out->value[METRIC_J_MEAN] + out->value[METRIC_F_MEAN]) / 2;
    for (int c = times ? CURVE_F : 0; c < CURVES; c++)
        combine_curve(p, u, n, times, c, out->curve[c]);
    double peak = p->value[CHOICE_PEAK];
    if (peak == PEAK_DATASET || (peak == PEAK_SEQUENCE && u[0].block)) {
        out->value[METRIC_MAX_F] = curve_max(out->curve[CURVE_F]);
        out->value[METRIC_MAX_E] = curve_max(out->curve[CURVE_E]);
    }
}

const struct eval_unit *eval_draws(const struct evaluation *ev, size_t *n)
{
    *n = ev->n_sequences > 1 ? ev->n_sequences : ev->n_blocks;
    return ev->n_sequences > 1 ? ev->sequences : ev->blocks;
}

/* A unit's values from its frames' values and its summed curves. */
static int finish_unit(struct evaluation *ev, struct eval_unit *u, struct err *e)
{
    double *v = malloc(2 * u->n * sizeof(*v)), n = (double)u->n;
    if (!v)
        return err_set(e, ERR_NOMEM, "no memory for %zu frames", u->n);
    for (int c = 0; c < CURVES; c++)
        for (int t = 0; t < METRIC_THRESHOLDS; t++)
            u->curve[c][t] /= n;
    for (int m = 0; m < METRIC_COUNT; m++) {
        double sum = 0;
        size_t known = 0;
        for (size_t i = 0; i < u->n; i++) {
            double x = ev->items[u->first + i].value[m];
            if (m == METRIC_TEMPORAL_STABILITY && isnan(x))
                continue;
            sum += x;
            known++;
        }
        u->value[m] = sum / (double)known;
        if (m == METRIC_TEMPORAL_STABILITY)
            u->known_t = known;
    }
    if (ev->protocol.value[CHOICE_PEAK] != PEAK_FRAME) {
        u->value[METRIC_MAX_F] = curve_max(u->curve[CURVE_F]);
        u->value[METRIC_MAX_E] = curve_max(u->curve[CURVE_E]);
    }
    for (size_t i = 0; i < u->n; i++) {
        v[i] = ev->items[u->first + i].value[METRIC_J_MEAN];
        v[u->n + i] = ev->items[u->first + i].value[METRIC_F_MEAN];
    }
    struct metric_stats j = metric_stats(v, u->n), f = metric_stats(v + u->n, u->n);
    u->value[METRIC_J_RECALL] = j.recall;
    u->value[METRIC_F_RECALL] = f.recall;
    u->value[METRIC_J_DECAY] = u->block ? NAN : j.decay;
    u->value[METRIC_F_DECAY] = u->block ? NAN : f.decay;
    free(v);
    return 0;
}

/* ---- batches -------------------------------------------------------------------------------------------------------- */

static void measure(struct run *r, struct metric_scratch *s, size_t i)
{
    struct slot *k = &r->slots[i];
    const struct eval_item *item = &r->ev->items[r->first + i];
    struct frame *pred, *gt;
    k->rc = eval_input_read(r->ev->input, &r->frames[item->frame], &pred, &gt, &k->err);
    if (k->rc == 0) {
        struct metric_image p = {pred->data, pred->width_px, pred->height_px, pred->stride_bytes};
        struct metric_image g = {gt->data, gt->width_px, gt->height_px, gt->stride_bytes};
        k->rc = metric_frame(s, &p, &g, &r->opts, &k->m, &k->err);
        frame_unref(pred);
        frame_unref(gt);
    }
    if (k->rc == 0)
        metric_shape(&k->m.contour, &k->shape);
    else if (*r->sequences[item->sequence].name)
        err_wrap(&k->err, "sequence %s", r->sequences[item->sequence].name);
}

static void measure_worker(void *arg, int worker)
{
    struct run *r = arg;
    for (size_t i; (i = atomic_fetch_add(&r->next, 1)) < r->n;)
        measure(r, r->scratch[worker], i);
}

static void compare_worker(void *arg, int i)
{
    struct run *r = arg;
    size_t at = r->first + (size_t)i;
    const struct eval_item *items = r->ev->items;
    bool follows = at > 0 && items[at - 1].sequence == items[at].sequence;
    const struct metric_shape *before = i ? &r->slots[i - 1].shape : &r->before;
    r->slots[i].stability = follows ? metric_shape_cost(before, &r->slots[i].shape) : NAN;
}

static double curve_mean(const double *c)
{
    double sum = 0;
    for (int t = 0; t < METRIC_THRESHOLDS; t++)
        sum += c[t];
    return sum / METRIC_THRESHOLDS;
}

static void set_values(const struct slot *k, double v[METRIC_COUNT])
{
    const struct metric_frame *m = &k->m;
    v[METRIC_MAE] = m->mae;
    v[METRIC_S_MEASURE] = m->s_measure;
    v[METRIC_WEIGHTED_F] = m->weighted_f;
    v[METRIC_MAX_F] = curve_max(m->f);
    v[METRIC_MEAN_F] = curve_mean(m->f);
    v[METRIC_ADAPTIVE_F] = m->adaptive_f;
    v[METRIC_MAX_E] = curve_max(m->e);
    v[METRIC_MEAN_E] = curve_mean(m->e);
    v[METRIC_ADAPTIVE_E] = m->adaptive_e;
    v[METRIC_J_MEAN] = m->j;
    v[METRIC_F_MEAN] = m->boundary_f;
    v[METRIC_JF_MEAN] = (m->j + m->boundary_f) / 2;
    v[METRIC_TEMPORAL_STABILITY] = k->stability;
    v[METRIC_J_RECALL] = v[METRIC_F_RECALL] = v[METRIC_J_DECAY] = v[METRIC_F_DECAY] = NAN;
}

static void add_curves(struct eval_unit *u, const struct metric_frame *m)
{
    const double *from[CURVES] = {
        [CURVE_PRECISION] = m->precision, [CURVE_RECALL] = m->recall, [CURVE_F] = m->f, [CURVE_E] = m->e};
    for (int c = 0; c < CURVES; c++)
        for (int t = 0; t < METRIC_THRESHOLDS; t++)
            u->curve[c][t] += from[c][t];
}

static void fold(struct run *r, size_t i)
{
    struct evaluation *ev = r->ev;
    const struct slot *k = &r->slots[i];
    size_t at = r->first + i;
    struct eval_item *item = &ev->items[at];
    set_values(k, item->value);
    add_curves(&ev->sequences[item->sequence], &k->m);
    if (ev->blocks)
        add_curves(&ev->blocks[item->block], &k->m);
    if (k->m.gt_pixels == 0 && k->m.gt_max > 0 && r->zero_one++ == 0)
        r->first_zero_one = at;
    if (isnan(item->value[METRIC_S_MEASURE]) && r->nan++ == 0)
        r->first_nan = at;
}

static int run_batch(struct run *r, struct err *e)
{
    atomic_store(&r->next, 0);
    par_for(r->workers, measure_worker, r);
    for (size_t i = 0; i < r->n; i++)
        if (r->slots[i].rc) {
            if (e)
                *e = r->slots[i].err;
            return r->slots[i].rc;
        }
    par_for((int)r->n, compare_worker, r);
    for (size_t i = 0; i < r->n; i++)
        fold(r, i);
    r->before = r->slots[r->n - 1].shape;
    return 0;
}

static int run_all(struct run *r, const struct evaluate_opts *o, struct err *e)
{
    for (r->first = 0; r->first < r->ev->n_items; r->first += r->n) {
        size_t left = r->ev->n_items - r->first;
        r->n = left < BATCH ? left : BATCH;
        int rc = run_batch(r, e);
        if (rc)
            return rc;
        if (o->progress && (rc = o->progress(o->progress_arg, (int64_t)(r->first + r->n), (int64_t)r->ev->n_items)))
            return err_set(e, rc, "canceled");
    }
    return 0;
}

/* ---- the plan ------------------------------------------------------------------------------------------------------- */

/* Which frames are measured: all but the skipped ones of each sequence. */
static int plan_items(struct evaluation *ev, struct err *e)
{
    const struct eval_frame *frames;
    const struct eval_sequence *seq;
    size_t n = eval_input_frames(ev->input, &frames), n_seq = eval_input_sequences(ev->input, &seq);
    int skip = (int)ev->protocol.value[CHOICE_SKIP];
    size_t head = skip == SKIP_FIRST || skip == SKIP_FIRST_LAST, tail = skip == SKIP_LAST || skip == SKIP_FIRST_LAST;
    ev->items = calloc(n, sizeof(*ev->items));
    ev->sequences = calloc(n_seq, sizeof(*ev->sequences));
    ev->n_sequences = n_seq;
    if (!ev->items || !ev->sequences)
        return err_set(e, ERR_NOMEM, "no memory for %zu frames", n);
    for (size_t s = 0; s < n_seq; s++) {
        if (seq[s].n <= head + tail)
            return err_set(e, ERR_INVALID,
                           "sequence '%s' has %zu frames: nothing is left after skipping (skip=none measures all)",
                           seq[s].name, seq[s].n);
        ev->sequences[s].first = ev->n_items;
        ev->sequences[s].n = seq[s].n - head - tail;
        for (size_t i = head; i < seq[s].n - tail; i++)
            ev->items[ev->n_items++] = (struct eval_item){.frame = seq[s].first + i, .sequence = s};
    }
    return 0;
}

/* Few sequences are also cut into runs of frames, about EVAL_UNITS_MAX in all. */
static int plan_blocks(struct evaluation *ev, struct err *e)
{
    if (ev->n_sequences >= EVAL_FEW_SEQUENCES)
        return 0;
    size_t size = (ev->n_items + EVAL_UNITS_MAX - 1) / EVAL_UNITS_MAX;
    if (!(ev->blocks = calloc(ev->n_items / size + ev->n_sequences, sizeof(*ev->blocks))))
        return err_set(e, ERR_NOMEM, "no memory for %zu frames", ev->n_items);
    for (size_t i = 0; i < ev->n_items; i++) {
        struct eval_unit *last = ev->n_blocks ? &ev->blocks[ev->n_blocks - 1] : NULL;
        if (!last || last->n == size || ev->items[last->first].sequence != ev->items[i].sequence) {
            last = &ev->blocks[ev->n_blocks++];
            *last = (struct eval_unit){.first = i, .block = true};
        }
        last->n++;
        ev->items[i].block = ev->n_blocks - 1;
    }
    return 0;
}

static int plan_workers(struct run *r, struct err *e)
{
    r->workers = par_threads();
    r->scratch = calloc((size_t)r->workers, sizeof(struct metric_scratch *));
    r->slots = calloc(BATCH, sizeof(*r->slots));
    bool ok = r->scratch && r->slots;
    for (int i = 0; ok && i < r->workers; i++)
        ok = (r->scratch[i] = metric_scratch_new()) != NULL;
    return ok ? 0 : err_set(e, ERR_NOMEM, "no memory for %d threads", r->workers);
}

static void free_workers(struct run *r)
{
    for (int i = 0; r->scratch && i < r->workers; i++)
        metric_scratch_free(r->scratch[i]);
    free(r->scratch);
    free(r->slots);
}

/* ---- the result ----------------------------------------------------------------------------------------------------- */

static void take_notes(const struct run *r)
{
    char name[EVAL_NAME_SIZE];
    struct evaluation *ev = r->ev;
    const char *input = eval_input_note(ev->input);
    if (input)
        evaluation_note(ev, "%s", input);
    if (r->zero_one)
        evaluation_note(
            ev,
            "Ground truth of %zu frames has no value above %d and yet is not black (first: %s). Masks coded "
            "0 and 1 need gt_threshold=0.",
            r->zero_one, r->opts.gt_above, eval_item_name(ev, &ev->items[r->first_zero_one], name));
    if (r->nan)
        evaluation_note(
            ev,
            "s_measure is undefined (null) for %zu frames (first: %s): the foreground's centroid lies on the "
            "last row or column. Means over them are null, as in the reference tool.",
            r->nan, eval_item_name(ev, &ev->items[r->first_nan], name));
}

struct ranked {
    double value;
    size_t item;
};

static int by_value(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

static int rank_worst(struct evaluation *ev, int want, struct err *e)
{
    struct ranked *v = malloc(ev->n_items * sizeof(*v));
    size_t n = 0;
    ev->worst_by = strcmp(ev->protocol.name, "davis") == 0 ? METRIC_JF_MEAN : METRIC_S_MEASURE;
    if (!v || !(ev->worst = malloc(ev->n_items * sizeof(*ev->worst)))) {
        free(v);
        return err_set(e, ERR_NOMEM, "no memory for %zu frames", ev->n_items);
    }
    for (size_t i = 0; i < ev->n_items; i++)
        if (!isnan(ev->items[i].value[ev->worst_by]))
            v[n++] = (struct ranked){ev->items[i].value[ev->worst_by], i};
    qsort(v, n, sizeof(*v), by_value);
    size_t limit = want < 0 ? 0 : want ? (size_t)want : WORST_DEFAULT;
    ev->n_worst = n < limit ? n : limit;
    for (size_t i = 0; i < ev->n_worst; i++)
        ev->worst[i] = v[i].item;
    free(v);
    return 0;
}

static int finish(struct run *r, const struct evaluate_opts *o, struct err *e)
{
    struct evaluation *ev = r->ev;
    int rc = 0;
    for (size_t s = 0; rc == 0 && s < ev->n_sequences; s++)
        rc = finish_unit(ev, &ev->sequences[s], e);
    for (size_t b = 0; rc == 0 && b < ev->n_blocks; b++)
        rc = finish_unit(ev, &ev->blocks[b], e);
    if (rc)
        return rc;
    ev->overall.n = ev->n_items;
    eval_combine(&ev->protocol, ev->sequences, ev->n_sequences, NULL, &ev->overall);
    take_notes(r);
    if ((rc = rank_worst(ev, o->worst, e)) || (rc = eval_intervals(ev, e)))
        return rc;
    return eval_gates(ev, o, e);
}

int evaluate_check(const struct evaluate_opts *o, struct err *e)
{
    struct protocol p;
    if (o->resamples < 0 || o->resamples > RESAMPLES_MAX)
        return err_set(e, ERR_INVALID, "resamples must be from 1 to %d", RESAMPLES_MAX);
    int rc = protocol_make(&p, o->protocol, o->choices, o->n_choices, e);
    return rc ? rc : eval_gates_check(o, e);
}

int evaluate_run(const struct evaluate_opts *o, struct evaluation **out, struct err *e)
{
    *out = NULL;
    int rc = evaluate_check(o, e); /* before the work, not after it */
    if (rc)
        return rc;
    struct evaluation *ev = calloc(1, sizeof(*ev));
    if (!ev)
        return err_set(e, ERR_NOMEM, "no memory");
    ev->per_frame = o->per_frame;
    ev->model = o->model ? strdup(o->model) : NULL;
    ev->data = o->data ? strdup(o->data) : NULL;
    ev->resamples = o->resamples ? o->resamples : RESAMPLES_DEFAULT;
    ev->seed = o->seed ? o->seed : 1;
    struct run r = {.ev = ev};
    rc = protocol_make(&ev->protocol, o->protocol, o->choices, o->n_choices, e);
    if (rc == 0)
        rc = eval_input_open(o, &ev->protocol, &ev->input, e);
    if (rc == 0)
        rc = plan_items(ev, e);
    if (rc == 0)
        rc = plan_blocks(ev, e);
    if (rc == 0)
        rc = plan_workers(&r, e);
    if (rc == 0) {
        eval_input_frames(ev->input, &r.frames);
        eval_input_sequences(ev->input, &r.sequences);
        r.opts = protocol_metric(&ev->protocol);
        rc = run_all(&r, o, e);
    }
    if (rc == 0)
        rc = finish(&r, o, e);
    free_workers(&r);
    if (rc)
        evaluation_free(ev);
    else
        *out = ev;
    return rc;
}

void evaluation_free(struct evaluation *ev)
{
    if (!ev)
        return;
    eval_input_close(ev->input);
    free(ev->items);
    free(ev->sequences);
    free(ev->blocks);
    free(ev->gates);
    free(ev->worst);
    free(ev->model);
    free(ev->data);
    for (size_t i = 0; i < ev->n_notes; i++)
        free(ev->notes[i]);
    free(ev);
}

bool evaluation_pass(const struct evaluation *ev)
{
    for (size_t i = 0; i < ev->n_gates; i++)
        if (ev->gates[i].status == GATE_FAIL)
            return false;
    return true;
}
