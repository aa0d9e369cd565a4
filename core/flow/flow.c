/*
 * Estimators: the backend table, the pool of working sets ("lanes") that makes an estimator thread-safe, and flow
 * fields. The per-pixel operations are in warp.c.
 */
#include "core/flow/flow.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/par.h"
#include "core/flow/backend.h"

static const struct flow_backend *const backends[] = {&flow_dis};
#define N_BACKENDS (sizeof(backends) / sizeof(backends[0]))

struct lane {
    void *impl;
    struct lane *next;
};

struct flow {
    const struct flow_backend *backend;
    const char *preset;
    int halvings;
    char name[64];
    pthread_mutex_t mu;
    struct lane *idle; /* lanes nobody uses now */
};

/* ---- lanes
 * ----------------------------------------------------------------------------------------------------------- */

static int lane_take(struct flow *f, struct lane **out, struct err *e)
{
    pthread_mutex_lock(&f->mu);
    struct lane *l = f->idle;
    if (l)
        f->idle = l->next;
    pthread_mutex_unlock(&f->mu);
    if (!l) {
        l = calloc(1, sizeof(*l));
        if (!l)
            return err_set(e, ERR_NOMEM, "optical flow");
        int rc = f->backend->lane_open(f->preset, f->halvings, &l->impl, e);
        if (rc) {
            free(l);
            return rc;
        }
    }
    *out = l;
    return 0;
}

static void lane_give(struct flow *f, struct lane *l)
{
    pthread_mutex_lock(&f->mu);
    l->next = f->idle;
    f->idle = l;
    pthread_mutex_unlock(&f->mu);
}

/* ---- estimators
 * ------------------------------------------------------------------------------------------------------ */

void flow_list(char *out, int size)
{
    int n = 0;
    BUG_ON(size < 1);
    out[0] = 0;
    for (size_t i = 0; i < N_BACKENDS; i++)
        for (const char *const *p = backends[i]->presets; *p && n < size; p++)
            n += snprintf(out + n, (size_t)(size - n), "%s%s:%s", n ? ", " : "", backends[i]->name, *p);
}

/* Finds "NAME" or "NAME:PRESET" in the table; returns 0 when it is not there. */
static int find(const char *spec, const struct flow_backend **backend, const char **preset)
{
    size_t len = strcspn(spec, ":");
    for (size_t i = 0; i < N_BACKENDS; i++) {
        if (strlen(backends[i]->name) != len || strncmp(spec, backends[i]->name, len) != 0)
            continue;
        *backend = backends[i];
        *preset = backends[i]->presets[0];
        if (!spec[len])
            return 1;
        for (const char *const *p = backends[i]->presets; *p; p++) {
            *preset = *p;
            if (!strcmp(spec + len + 1, *p))
                return 1;
        }
    }
    return 0;
}

int flow_open(const char *spec, struct flow **out, struct err *e)
{
    return flow_open_halved(spec, 0, out, e);
}

int flow_open_halved(const char *spec, int halvings, struct flow **out, struct err *e)
{
    const struct flow_backend *backend;
    const char *preset;
    *out = NULL;
    if (!find(spec, &backend, &preset)) {
        char known[256];
        flow_list(known, sizeof(known));
        return err_set(e, ERR_INVALID, "unknown flow '%.64s' (known: %s)", spec, known);
    }
    struct flow *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(e, ERR_NOMEM, "optical flow");
    f->backend = backend;
    f->preset = preset;
    f->halvings = halvings;
    snprintf(f->name, sizeof(f->name), "%s:%s", backend->name, preset);
    pthread_mutex_init(&f->mu, NULL);
    struct lane *first;
    int rc = lane_take(f, &first, e); /* what cannot work fails here */
    if (rc) {
        flow_close(f);
        return rc;
    }
    lane_give(f, first);
    *out = f;
    return 0;
}

void flow_close(struct flow *f)
{
    if (!f)
        return;
    for (struct lane *l = f->idle, *next; l; l = next) {
        next = l->next;
        f->backend->lane_close(l->impl);
        free(l);
    }
    pthread_mutex_destroy(&f->mu);
    free(f);
}

const char *flow_name(const struct flow *f)
{
    return f->name;
}

static int check_image(const struct flow_image *im, const struct flow_field *out, struct err *e)
{
    if (im->channels != 1 && im->channels != 3)
        return err_set(e, ERR_INVALID, "optical flow: an image of %d channels", im->channels);
    if (im->width_px < FLOW_MIN_PX || im->height_px < FLOW_MIN_PX)
        return err_set(e, ERR_INVALID, "optical flow: %d x %d is smaller than %d x %d", im->width_px, im->height_px,
                       FLOW_MIN_PX, FLOW_MIN_PX);
    if (im->width_px != out->width_px || im->height_px != out->height_px)
        return err_set(e, ERR_INVALID, "optical flow: sizes differ, %d x %d and %d x %d", im->width_px, im->height_px,
                       out->width_px, out->height_px);
    return 0;
}

int flow_compute(struct flow *f, const struct flow_image *a, const struct flow_image *b, struct flow_field *out,
                 struct err *e)
{
    int rc = check_image(a, out, e);
    if (!rc)
        rc = check_image(b, out, e);
    struct lane *l;
    if (!rc)
        rc = lane_take(f, &l, e);
    if (rc)
        return rc;
    rc = f->backend->lane_compute(l->impl, a, b, out, e);
    lane_give(f, l);
    return rc;
}

struct pair_job {
    struct flow *f;
    const struct flow_image *im[2];
    struct flow_field *out[2];
    struct err err[2];
    int rc[2];
};

static void pair_half(void *arg, int i)
{
    struct pair_job *j = arg;
    j->rc[i] = flow_compute(j->f, j->im[i], j->im[1 - i], j->out[i], &j->err[i]);
}

int flow_compute_pair(struct flow *f, const struct flow_image *a, const struct flow_image *b, struct flow_field *ab,
                      struct flow_field *ba, struct err *e)
{
    struct pair_job j = {.f = f, .im = {a, b}, .out = {ab, ba}};
    par_for(2, pair_half, &j);
    for (int i = 0; i < 2; i++)
        if (j.rc[i]) {
            if (e)
                *e = j.err[i];
            return j.rc[i];
        }
    return 0;
}

/* ---- fields
 * ---------------------------------------------------------------------------------------------------------- */

int flow_field_init(struct flow_field *f, int width_px, int height_px, struct err *e)
{
    *f = (struct flow_field){0};
    if (width_px < 1 || height_px < 1)
        return err_set(e, ERR_INVALID, "flow field of %d x %d", width_px, height_px);
    size_t n = (size_t)width_px * (size_t)height_px;
    float *both = calloc(n, 2 * sizeof(float));
    if (!both)
        return err_set(e, ERR_NOMEM, "flow field of %d x %d", width_px, height_px);
    *f = (struct flow_field){.dx = both, .dy = both + n, .width_px = width_px, .height_px = height_px};
    return 0;
}

void flow_field_fini(struct flow_field *f)
{
    free(f->dx);
    *f = (struct flow_field){0};
}
