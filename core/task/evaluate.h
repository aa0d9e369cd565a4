/*
 * The evaluate job: predictions against ground truth, under a protocol whose every choice is in the result, with gates
 * that a build can fail on. Used by `salient eval` and POST /eval, which print the same object.
 *
 * Inputs are folders or zips of PNG and JPEG images: flat, one folder a sequence, or DAVIS' Annotations/480p/SEQUENCE.
 * Frames are paired by sequence and stem; a frame on one side only is an error that names it. Palette PNGs with colours
 * are label maps (any index but 0 is foreground; 255, "void", is refused); all else is read as grey, 16 bits cut to 8.
 *
 * Memory does not grow with the size of the images' set, except by about 250 bytes a frame and 10 KB a sequence.
 */
#ifndef CORE_TASK_EVALUATE_H
#define CORE_TASK_EVALUATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/base/buf.h"
#include "core/base/err.h"

/* One choice of a protocol, overridden. The names are flags of `salient eval` and parameters of POST /eval; see
 * evaluate_choices. */
struct evaluate_choice {
    const char *name, *value;
};

struct evaluate_opts {
    const char *pred, *gt;             /* folders or zips */
    const char *pred_label, *gt_label; /* their names in messages; NULL: the paths */
    const char *protocol;              /* "pysod", "davsod", "davis"; NULL: pysod */
    const struct evaluate_choice *choices;
    size_t n_choices;
    const char *min;      /* "s_measure=0.85,max_f=0.8" (or ':'), or NULL. For metrics where lower is better the
                               * value is the largest that passes. */
    const char *max_drop; /* the same form; needs a baseline */
    const char *baseline; /* an earlier result as JSON, or NULL */
    size_t baseline_len;
    const char *baseline_name; /* for messages */
    const char *model, *data;  /* what was measured on what, for the reports; or NULL */
    bool per_frame;            /* report every frame */
    int worst;                 /* how many worst frames to list; 0: 10, negative: none */
    int resamples;             /* of the bootstrap; 0: 1000 */
    uint64_t seed;             /* of the bootstrap; 0: 1 */
    int64_t max_pixels;        /* of one image; 0: 40 million */
    int64_t max_zip_bytes;     /* unpacked, of one zip; 0: 16 GiB */
    /* After each batch of frames; a negative return (ERR_CANCELED) stops the run. May be NULL. */
    int (*progress)(void *arg, int64_t done, int64_t total);
    void *progress_arg;
};

struct evaluation;

/* Names, numbers and the baseline's JSON alone: what can be said before any image is read. ERR_INVALID. */
int evaluate_check(const struct evaluate_opts *o, struct err *e);
/* The caller frees *out. A gate that fails is a result, not an error. Errors name the frame, entry or option:
 * ERR_INVALID unknown names, unmatched frames, mismatched sizes, a baseline of another protocol or other sequences;
 * ERR_NOTFOUND, ERR_UNSUPPORTED, ERR_CORRUPT, ERR_LIMIT, ERR_IO, ERR_NOMEM, ERR_CANCELED. */
int evaluate_run(const struct evaluate_opts *o, struct evaluation **out, struct err *e);
void evaluation_free(struct evaluation *ev); /* NULL is fine */
bool evaluation_pass(const struct evaluation *ev);

/* Reports. Each appends to `out`; ERR_NOMEM. */
int evaluation_json(const struct evaluation *ev, struct buf *out, struct err *e);
int evaluation_markdown(const struct evaluation *ev, struct buf *out, struct err *e); /* fits a pull-request comment */
int evaluation_junit(const struct evaluation *ev, struct buf *out, struct err *e);
int evaluation_svg(const struct evaluation *ev, struct buf *out, struct err *e); /* PR and F curves */

/* The curves of an earlier JSON report as evaluation_svg draws them. ERR_INVALID: it has none. */
int evaluate_plot_report(const char *report, size_t len, struct buf *out, struct err *e);
/* Values over time as SVG, a line for each metric (NaN leaves a gap); from and to stand below its ends. */
struct evaluate_trend {
    const char *metric; /* a metric's name */
    const double *value;
    size_t n;
};
int evaluate_plot_trend(const struct evaluate_trend *t, size_t n, const char *from, const char *to, struct buf *out,
                        struct err *e);

/* The reports by name ("json", "md", "junit", "svg"), with their media types and file names; ends with name == NULL. */
struct evaluate_report {
    const char *name, *type, *file;
    int (*make)(const struct evaluation *ev, struct buf *out, struct err *e);
};
extern const struct evaluate_report evaluate_reports[];

/* The choices by name, ending with name == NULL, for option tables and documentation. */
struct evaluate_choice_info {
    const char *name, *values, *what;
};
extern const struct evaluate_choice_info evaluate_choices[];

#endif
