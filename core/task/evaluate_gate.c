/*
 * Gates, and how sure the numbers are.
 *
 * Intervals: percentile bootstrap (Efron), 95%, drawing sequences with replacement; a flat set or a single sequence is
 * cut into at most 256 runs of frames, which are drawn instead. Every draw has its own seed, so a result does not depend
 * on threads.
 *
 * A drop against a baseline of the same frames is judged on pairs: draws are taken of the differences, which removes what
 * makes sequences hard or easy. Pairs are sequences, or, below eight of them, runs of frames within sequences: three
 * sequences all go the same way by chance once in four times. The drop is noise when its interval reaches past zero by
 * at least a tenth of the drop itself; the tenth keeps one sequence that falls hard among others that stand still from
 * passing as noise. Without pairs nothing can be said about noise, and the limit alone decides.
 */
#include "core/task/evaluate_internal.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/base/par.h"
#include "core/base/rng.h"

#define NOISE_REACH 0.1 /* share of the drop */

/* ---- draws ---------------------------------------------------------------------------------------------------------- */

/* How often each of n units is drawn in draw number i. */
static void draw(uint64_t seed, int i, size_t n, int *times)
{
    struct rng g;
    rng_seed(&g, seed * 0x9e3779b97f4a7c15u + (uint64_t)i);
    memset(times, 0, n * sizeof(*times));
    for (size_t k = 0; k < n; k++)
        times[rng_int(&g, (int)n)]++;
}

static int by_number(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* 2.5% and 97.5% points, interpolated, of n values; NaN when a value is. */
static void percentiles(double *v, int n, double *low, double *high)
{
    double sum = 0;
    for (int i = 0; i < n; i++)
        sum += v[i];
    *low = *high = NAN;
    if (isnan(sum))
        return;
    qsort(v, (size_t)n, sizeof(*v), by_number);
    double at[2] = {0.025 * (n - 1), 0.975 * (n - 1)}, out[2];
    for (int k = 0; k < 2; k++) {
        int i = (int)at[k], j = i + 1 < n ? i + 1 : i;
        out[k] = v[i] + (v[j] - v[i]) * (at[k] - i);
    }
    *low = out[0];
    *high = out[1];
}

struct bootstrap {
    const struct evaluation *ev;
    const struct eval_unit *u;
    size_t n;
    double (*values)[METRIC_COUNT]; /* of each draw */
    bool failed;
};

static void bootstrap_draw(void *arg, int i)
{
    struct bootstrap *b = arg;
    int *times = malloc(b->n * sizeof(*times));
    struct eval_unit *out = malloc(sizeof(*out));
    if (times && out) {
        draw(b->ev->seed, i, b->n, times);
        eval_combine(&b->ev->protocol, b->u, b->n, times, out);
        memcpy(b->values[i], out->value, sizeof(out->value));
    } else {
        b->failed = true; /* only ever set: threads may race to the same value */
    }
    free(times);
    free(out);
}

int eval_intervals(struct evaluation *ev, struct err *e)
{
    struct bootstrap b = {.ev = ev};
    b.u = eval_draws(ev, &b.n);
    b.values = malloc((size_t)ev->resamples * sizeof(*b.values));
    double *column = malloc((size_t)ev->resamples * sizeof(*column));
    b.failed = !b.values || !column;
    if (!b.failed && b.n > 1)
        par_for(ev->resamples, bootstrap_draw, &b);
    for (int m = 0; m < METRIC_COUNT && !b.failed; m++) {
        ev->low[m] = ev->high[m] = NAN;
        if (b.n < 2)
            continue;
        for (int i = 0; i < ev->resamples; i++)
            column[i] = b.values[i][m];
        percentiles(column, ev->resamples, &ev->low[m], &ev->high[m]);
    }
    free(b.values);
    free(column);
    return b.failed ? err_set(e, ERR_NOMEM, "no memory for %d bootstrap draws", ev->resamples) : 0;
}

/* ---- "metric=value,..." ---------------------------------------------------------------------------------------------- */

/* The next item of *list; 1, 0 at the end, or an error. */
static int next_limit(const char **list, const char *what, int *metric, double *limit, struct err *e)
{
    const char *s = *list ? *list : "";
    s += strspn(s, ", ");
    if (!*s)
        return 0;
    size_t len = strcspn(s, ",");
    const char *sep = memchr(s, '=', len);
    sep = sep ? sep : memchr(s, ':', len);
    if (!sep)
        return err_set(e, ERR_INVALID, "%s '%.*s': expected METRIC=VALUE", what, (int)len, s);
    *metric = metric_find(s, (size_t)(sep - s));
    if (*metric < 0)
        return err_set(e, ERR_INVALID, "%s: no metric '%.*s'", what, (int)(sep - s), s);
    char text[64], *end;
    size_t n = (size_t)(s + len - sep - 1);
    snprintf(text, sizeof(text), "%.*s", (int)(n < sizeof(text) ? n : 0), sep + 1);
    errno = 0;
    *limit = strtod(text, &end);
    if (errno || end == text || *end || !isfinite(*limit))
        return err_set(e, ERR_INVALID, "%s: '%.*s' is not a number", what, (int)n, sep + 1);
    *list = s + len;
    return 1;
}

static int check_list(const char *list, const char *what, bool drop, size_t *n, struct err *e)
{
    int metric, rc;
    double limit;
    while ((rc = next_limit(&list, what, &metric, &limit, e)) > 0) {
        if (drop && limit < 0)
            return err_set(e, ERR_INVALID, "%s: a drop of %g is below zero", what, limit);
        ++*n;
    }
    return rc;
}

/* ---- the baseline ---------------------------------------------------------------------------------------------------- */

static int load_baseline(const struct evaluate_opts *o, json_t **out, struct err *e)
{
    const char *name = o->baseline_name ? o->baseline_name : "baseline";
    json_error_t je;
    *out = json_loadb(o->baseline, o->baseline_len, JSON_REJECT_DUPLICATES, &je);
    if (!*out)
        return err_set(e, ERR_INVALID, "%s: not JSON, line %d: %s", name, je.line, je.text);
    if (!json_is_object(json_object_get(*out, "overall"))) {
        json_decref(*out);
        *out = NULL;
        return err_set(e, ERR_INVALID,
                       "%s: no \"overall\" object; a baseline is what `salient eval --format json` prints", name);
    }
    return 0;
}

int eval_gates_check(const struct evaluate_opts *o, struct err *e)
{
    size_t mins = 0, drops = 0;
    int rc = check_list(o->min, "min", false, &mins, e);
    if (rc == 0)
        rc = check_list(o->max_drop, "max_drop", true, &drops, e);
    if (rc == 0 && drops && !o->baseline)
        rc = err_set(e, ERR_INVALID, "max_drop needs a baseline");
    if (rc == 0 && o->baseline) {
        json_t *b;
        if ((rc = load_baseline(o, &b, e)) == 0)
            json_decref(b);
    }
    return rc;
}

/* Numbers under different protocols are different numbers. A choice the baseline does not name is not compared. */
static int same_protocol(const struct evaluation *ev, const json_t *base, const char *name, struct err *e)
{
    const json_t *p = json_object_get(base, "protocol");
    for (int i = 0; i < CHOICE_COUNT; i++) {
        const json_t *v = json_object_get(p, choice_name((enum choice_id)i));
        size_t len;
        const char *word = choice_word((enum choice_id)i, ev->protocol.value[i], &len);
        bool same = !v || (word ? json_is_string(v) && json_string_length(v) == len &&
                                      memcmp(json_string_value(v), word, len) == 0
                                : json_is_number(v) && json_number_value(v) == ev->protocol.value[i]);
        if (!same)
            return err_set(e, ERR_INVALID, "%s was measured under another protocol: its %s differs", name,
                           choice_name((enum choice_id)i));
    }
    return 0;
}

static double metric_of(const json_t *o, int metric)
{
    const json_t *v = json_object_get(o, metric_name((enum metric_id)metric));
    return json_is_number(v) ? json_number_value(v) : NAN;
}

static const char *name_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* The baseline's object for each of our draws, in our order; *out is NULL when it carries none. */
static int pair_sequences(const struct evaluation *ev, const json_t *list, const char *name, const json_t ***out,
                          struct err *e)
{
    const struct eval_sequence *seq;
    size_t n = eval_input_sequences(ev->input, &seq), i;
    const json_t **v = calloc(n, sizeof(*v)), *item;
    if (!v)
        return err_set(e, ERR_NOMEM, "no memory for %zu sequences", n);
    json_array_foreach(list, i, item)
    {
        size_t k = 0;
        while (k < n && strcmp(seq[k].name, name_of(item, "name")) != 0)
            k++;
        if (k == n) {
            free(v);
            return err_set(e, ERR_INVALID, "%s has a sequence '%s' that is not in this set", name,
                           name_of(item, "name"));
        }
        v[k] = item;
    }
    for (size_t k = 0; k < n; k++)
        if (!v[k]) {
            free(v);
            return err_set(e, ERR_INVALID, "%s has no sequence '%s'", name, seq[k].name);
        }
    *out = v;
    return 0;
}

static int pair_blocks(const struct evaluation *ev, const json_t *list, const json_t ***out, struct err *e)
{
    size_t n = ev->n_blocks;
    bool same = n > 0 && json_array_size(list) == n;
    const struct eval_frame *frames;
    const struct eval_sequence *seq;
    eval_input_frames(ev->input, &frames);
    eval_input_sequences(ev->input, &seq);
    *out = NULL;
    if (!same)
        return 0;
    const json_t **v = calloc(n, sizeof(*v));
    if (!v)
        return err_set(e, ERR_NOMEM, "no memory for %zu runs of frames", n);
    for (size_t i = 0; i < n && same; i++) {
        v[i] = json_array_get(list, i);
        const struct eval_item *first = &ev->items[ev->blocks[i].first];
        same = strcmp(name_of(v[i], "sequence"), seq[first->sequence].name) == 0 &&
               strcmp(name_of(v[i], "first"), frames[first->frame].stem) == 0 &&
               json_integer_value(json_object_get(v[i], "frames")) == (json_int_t)ev->blocks[i].n;
    }
    if (same)
        *out = v;
    else
        free(v);
    return 0;
}

/* What a baseline and this run have in common to be drawn from. */
struct pairs {
    const json_t **base; /* NULL: nothing */
    const struct eval_unit *mine;
    size_t n;
};

static int pair_baseline(const struct evaluation *ev, const json_t *base, const char *name, struct pairs *out,
                         struct err *e)
{
    const json_t *list = json_object_get(base, "sequences"), **sequences = NULL;
    *out = (struct pairs){.mine = ev->blocks, .n = ev->n_blocks};
    int rc = json_is_array(list) ? pair_sequences(ev, list, name, &sequences, e) : 0;
    if (rc == 0)
        rc = pair_blocks(ev, json_object_get(base, "blocks"), &out->base, e);
    if (rc == 0 && !out->base && ev->n_sequences > 1) {
        *out = (struct pairs){.base = sequences, .mine = ev->sequences, .n = ev->n_sequences};
        return 0;
    }
    free(sequences);
    return rc;
}

/* Weight of a pair in the mean of differences: as its frames or its sequence count in the overall value. */
static double pair_weight(const struct evaluation *ev, const struct eval_unit *u)
{
    if (ev->protocol.value[CHOICE_AVERAGING] == AVERAGE_FRAMES)
        return (double)u->n;
    return u->block ? (double)u->n / (double)ev->sequences[ev->items[u->first].sequence].n : 1;
}

/* ---- judgement ------------------------------------------------------------------------------------------------------- */

static double worse_by(int metric, double base, double value)
{
    return metric_lower_is_better((enum metric_id)metric) ? value - base : base - value;
}

/* Interval of the drop from draws of paired differences, centred on the drop itself: for means it is the paired
 * bootstrap, for maxima of mean curves (whose curves a baseline does not carry) its linear approximation. */
static int drop_interval(const struct evaluation *ev, const struct pairs *p, struct eval_gate *g, struct err *e)
{
    size_t n = p->n;
    double *d = malloc(n * sizeof(*d)), *w = malloc(n * sizeof(*w)), sum = 0, total = 0;
    double *means = malloc((size_t)ev->resamples * sizeof(*means));
    int *times = malloc(n * sizeof(*times)), rc = 0;
    if (!d || !w || !means || !times)
        rc = err_set(e, ERR_NOMEM, "no memory for %d bootstrap draws", ev->resamples);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        d[i] = worse_by(g->metric, metric_of(p->base[i], g->metric), p->mine[i].value[g->metric]);
        w[i] = pair_weight(ev, &p->mine[i]);
        if (isnan(d[i])) /* undefined on one side: it moves nothing */
            d[i] = w[i] = 0;
        sum += w[i] * d[i];
        total += w[i];
    }
    for (int k = 0; rc == 0 && k < ev->resamples; k++) {
        double s = 0, t = 0;
        draw(ev->seed, k, n, times);
        for (size_t i = 0; i < n; i++) {
            s += times[i] * w[i] * d[i];
            t += times[i] * w[i];
        }
        means[k] = g->change + (t > 0 ? s / t - sum / total : 0);
    }
    if (rc == 0)
        percentiles(means, ev->resamples, &g->low, &g->high);
    free(d);
    free(w);
    free(means);
    free(times);
    return rc;
}

static void judge_min(struct eval_gate *g)
{
    bool lower = metric_lower_is_better((enum metric_id)g->metric);
    bool pass = lower ? g->value <= g->limit : g->value >= g->limit; /* NaN fails */
    g->status = pass ? GATE_PASS : GATE_FAIL;
    if (isnan(g->value))
        snprintf(g->message, sizeof(g->message), "%s is undefined", metric_name((enum metric_id)g->metric));
    else
        snprintf(g->message, sizeof(g->message), "%s %.6g, %s %.6g", metric_name((enum metric_id)g->metric), g->value,
                 pass ? (lower ? "at most" : "at least") : (lower ? "must be at most" : "must be at least"), g->limit);
}

static void judge_drop(struct eval_gate *g, bool paired)
{
    const char *name = metric_name((enum metric_id)g->metric);
    g->status = g->change <= g->limit ? GATE_PASS : GATE_FAIL; /* NaN fails */
    if (isnan(g->change)) {
        snprintf(g->message, sizeof(g->message), "%s is undefined %s", name,
                 isnan(g->value) ? "here" : "in the baseline");
        return;
    }
    const char *verdict = g->status == GATE_PASS ? "within" : "more than";
    if (g->status == GATE_FAIL && paired && g->low < -NOISE_REACH * g->change) {
        g->status = GATE_NOISE;
        verdict = "inside the noise, though more than";
    }
    int at = snprintf(g->message, sizeof(g->message), "%s %.6g, baseline %.6g: %s by %.6g, %s the allowed %.6g", name,
                      g->value, g->baseline, g->change > 0 ? "worse" : "better", fabs(g->change), verdict, g->limit);
    if (paired && !isnan(g->low) && at > 0 && (size_t)at < sizeof(g->message))
        snprintf(g->message + at, sizeof(g->message) - (size_t)at, " (95%% of draws: %.3g to %.3g)", g->low, g->high);
}

static int judge_drops(struct evaluation *ev, const struct evaluate_opts *o, struct err *e)
{
    const char *name = o->baseline_name ? o->baseline_name : "baseline", *list = o->max_drop;
    struct pairs pairs = {0};
    json_t *base;
    int rc = load_baseline(o, &base, e), more = 0;
    if (rc == 0)
        rc = same_protocol(ev, base, name, e);
    if (rc == 0)
        rc = pair_baseline(ev, base, name, &pairs, e);
    if (rc == 0 && !pairs.base && list)
        evaluation_note(
            ev, "%s carries no values of the same sequences or frames, so noise cannot be told from change.", name);
    const json_t *overall = json_object_get(base, "overall");
    while (rc == 0) {
        struct eval_gate *g = &ev->gates[ev->n_gates];
        *g = (struct eval_gate){.drop = true, .low = NAN, .high = NAN};
        if ((more = next_limit(&list, "max_drop", &g->metric, &g->limit, e)) <= 0)
            break;
        g->value = ev->overall.value[g->metric];
        g->baseline = metric_of(overall, g->metric);
        g->change = worse_by(g->metric, g->baseline, g->value);
        if (pairs.base)
            rc = drop_interval(ev, &pairs, g, e);
        judge_drop(g, pairs.base != NULL);
        ev->n_gates++;
    }
    free(pairs.base);
    json_decref(base);
    return rc ? rc : more;
}

int eval_gates(struct evaluation *ev, const struct evaluate_opts *o, struct err *e)
{
    size_t n = 0;
    const char *list = o->min;
    int rc = check_list(o->min, "min", false, &n, e);
    if (rc == 0)
        rc = check_list(o->max_drop, "max_drop", true, &n, e);
    if (rc == 0 && !(ev->gates = calloc(n + 1, sizeof(*ev->gates)))) /* one spare, being parsed */
        rc = err_set(e, ERR_NOMEM, "no memory for %zu gates", n);
    while (rc == 0) {
        struct eval_gate *g = &ev->gates[ev->n_gates];
        *g = (struct eval_gate){.baseline = NAN, .change = NAN, .low = NAN, .high = NAN};
        int more = next_limit(&list, "min", &g->metric, &g->limit, e);
        if (more <= 0) {
            rc = more;
            break;
        }
        g->value = ev->overall.value[g->metric];
        judge_min(g);
        ev->n_gates++;
    }
    return rc == 0 && o->baseline ? judge_drops(ev, o, e) : rc;
}
