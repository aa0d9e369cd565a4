/*
 * .../suggest: the frames whose annotation would help most, worst first.
 *
 * Each frame has a need: what a rejected label leaves open (1), what a proposed label may be wrong by (1 - confidence,
 * an estimate of its missing region similarity), or, where nothing was propagated, how far the next keyframe is. A mask
 * helps its neighbourhood, so frames close to one that is named are not named, and a tie goes to the frame farthest from
 * every keyframe. Without any keyframe the frames that stand for most others come first: the middle, the ends, the
 * quarters, always the frame farthest from all chosen ones.
 */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "api/annotation.h"
#include "api/context.h"
#include "api/json.h"
#include "api/lookup.h"
#include "api/route.h"
#include "api/upload.h"

enum { LIMIT_DEFAULT = 5, LIMIT_MAX = 100, SPACING_MIN = 3, SPACING_MAX = 12 };
#define GAP_FRAMES 30.0 /* a frame this far from a keyframe, with no label, is 63 % in need */
#define NEED_MIN 0.02   /* below, nothing is to be gained */

struct need {
    double score;
    const char *reason; /* NULL: none */
    const struct label_record *label;
    bool taken; /* near a frame that was named */
};

struct scan {
    struct need *frame;
    int64_t n;
    int64_t *distance; /* to the nearest keyframe or chosen frame; n without one */
};

/* Distances on a line: one pass each way. */
static void measure(struct scan *s)
{
    for (int64_t i = 1; i < s->n; i++)
        if (s->distance[i] > s->distance[i - 1] + 1)
            s->distance[i] = s->distance[i - 1] + 1;
    for (int64_t i = s->n - 2; i >= 0; i--)
        if (s->distance[i] > s->distance[i + 1] + 1)
            s->distance[i] = s->distance[i + 1] + 1;
}

static void judge_label(struct need *f, const struct label_record *l)
{
    if (strcmp(l->source, "uncovered") == 0)
        return; /* a gap */
    f->label = l;
    bool accepted = strcmp(l->state, "accepted") == 0;
    if (accepted)
        *f = (struct need){.label = l};
    else if (strcmp(l->state, "rejected") == 0 || strcmp(l->source, "rejected") == 0)
        *f = (struct need){.score = 1, .reason = "rejected", .label = l};
    else if (l->sha256)
        *f = (struct need){.score = 1 - l->confidence, .reason = l->stale ? "stale" : "low_confidence", .label = l};
}

static void judge(struct scan *s, const struct label_list *l, bool any_key)
{
    measure(s);
    for (int64_t i = 0; i < s->n; i++)
        s->frame[i] =
            any_key ? (struct need){.reason = "long_gap"} : (struct need){.score = 1, .reason = "no_keyframes"};
    for (size_t i = 0; i < l->n; i++)
        if (l->items[i].frame < s->n)
            judge_label(&s->frame[l->items[i].frame], &l->items[i]);
}

/* Gaps shrink while frames are named; what is known of a label does not. */
static double score_of(const struct scan *s, int64_t i)
{
    const struct need *f = &s->frame[i];
    return f->label || f->score == 1 ? f->score : 1 - exp(-(double)s->distance[i] / GAP_FRAMES);
}

/* The next frame to name, or -1. */
static int64_t worst(const struct scan *s, bool first)
{
    int64_t best = -1;
    const struct need *middle = &s->frame[s->n / 2];
    if (first && middle->reason && strcmp(middle->reason, "no_keyframes") == 0)
        return s->n / 2;
    for (int64_t i = 0; i < s->n; i++) {
        if (!s->frame[i].reason || s->frame[i].taken || score_of(s, i) < NEED_MIN)
            continue;
        double more = best < 0 ? 1 : score_of(s, i) - score_of(s, best);
        if (more > 0 || (more == 0 && s->distance[i] > s->distance[best]))
            best = i;
    }
    return best;
}

static json_t *suggestion(const struct scan *s, int64_t i)
{
    const struct need *f = &s->frame[i];
    return json_pack("{s:I, s:f, s:s, s:o}", "frame", (json_int_t)i, "score", round(score_of(s, i) * 1e4) / 1e4,
                     "reason", f->reason, "confidence",
                     f->label && f->label->sha256 ? json_real(f->label->confidence) : json_null());
}

static json_t *choose(struct scan *s, int64_t limit)
{
    json_t *out = json_array();
    int64_t spacing = s->n / 20;
    spacing = spacing < SPACING_MIN ? SPACING_MIN : spacing > SPACING_MAX ? SPACING_MAX : spacing;
    for (int64_t k = 0; k < limit; k++) {
        int64_t at = worst(s, k == 0);
        if (at < 0)
            break;
        json_array_append_new(out, suggestion(s, at));
        s->distance[at] = 0;
        for (int64_t i = at - spacing + 1; i < at + spacing; i++)
            if (i >= 0 && i < s->n)
                s->frame[i].taken = true;
        measure(s);
    }
    return out;
}

static int suggest(const struct clip_record *clip, const struct mask_list *keys, const struct label_list *labels,
                   int64_t limit, json_t **out, struct err *e)
{
    struct scan s = {.n = clip->frames};
    s.frame = calloc((size_t)s.n + 1, sizeof(*s.frame));
    s.distance = calloc((size_t)s.n + 1, sizeof(*s.distance));
    int rc = s.frame && s.distance ? 0 : err_set(e, ERR_NOMEM, "no memory to look at the clip");
    for (int64_t i = 0; rc == 0 && i < s.n; i++)
        s.distance[i] = s.n;
    for (size_t i = 0; rc == 0 && i < keys->n; i++)
        if (keys->items[i].frame < s.n)
            s.distance[keys->items[i].frame] = 0;
    if (rc == 0 && s.n > 0)
        judge(&s, labels, keys->n > 0);
    if (rc == 0)
        *out = s.n > 0 ? choose(&s, limit) : json_array();
    free(s.frame);
    free(s.distance);
    return rc;
}

int route_suggest(struct http_request *req, struct http_response *resp, struct err *e)
{
    static const char *const names[] = {"limit", NULL};
    struct clip_record clip = {0};
    struct mask_list keys = {0};
    struct label_list labels = {0};
    struct store *s = req->api->cfg.store;
    const char *project = http_path_param(req, "p");
    json_t *out = NULL;
    int64_t limit = LIMIT_DEFAULT;
    int rc = params_check(req, names, e);
    if (rc == 0)
        rc = param_int(req, "limit", 1, LIMIT_MAX, &limit, e);
    if (rc == 0)
        rc = lookup_project_clip(req, &clip, e);
    const struct label_filter f = {.clip_id = clip.id};
    if (rc == 0)
        rc = mask_list(s, project, clip.id, &keys, e);
    if (rc == 0)
        rc = label_list(s, project, &f, &labels, e);
    if (rc == 0)
        rc = suggest(&clip, &keys, &labels, limit, &out, e);
    if (rc == 0) {
        http_set_header(resp, "Cache-Control", "no-store");
        rc = json_response(resp, 200, out, e);
    }
    label_list_fini(&labels);
    mask_list_fini(&keys);
    clip_record_fini(&clip);
    return rc;
}
