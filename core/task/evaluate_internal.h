/* Shared by the files of the evaluate job. */
#ifndef CORE_TASK_EVALUATE_INTERNAL_H
#define CORE_TASK_EVALUATE_INTERNAL_H

#include "core/metric/metric.h"
#include "core/task/evaluate.h"

/* ---- protocol: evaluate_protocol.c ----------------------------------------------------------------------------------- */

enum choice_id {
#define WORD(id, name, words, a, b, c, what) CHOICE_##id,
#define NUMBER(id, name, lo, hi, a, b, c, what) CHOICE_##id,
#include "core/task/evaluate.def"
#undef WORD
#undef NUMBER
    CHOICE_COUNT
};
enum { SKIP_NONE, SKIP_FIRST, SKIP_LAST, SKIP_FIRST_LAST };
enum { AVERAGE_FRAMES, AVERAGE_SEQUENCES };
enum { PEAK_DATASET, PEAK_SEQUENCE, PEAK_FRAME };
enum { RESIZE_NONE, RESIZE_NEAREST, RESIZE_BILINEAR };

struct protocol {
    const char *name;
    double value[CHOICE_COUNT]; /* a number, or the position of a word */
    bool changed[CHOICE_COUNT]; /* differs from the protocol's own */
};

int protocol_make(struct protocol *p, const char *name, const struct evaluate_choice *c, size_t n, struct err *e);
struct metric_opts protocol_metric(const struct protocol *p);
const char *choice_name(enum choice_id id);
const char *choice_word(enum choice_id id, double value, size_t *len); /* not terminated; NULL for numbers */

/* ---- input: evaluate_input.c ------------------------------------------------------------------------------------------ */

/* The order of frames is by sequence, then stem, both natural. */
struct eval_frame {
    const char *stem;
    size_t pred, gt; /* files of either side */
};
struct eval_sequence {
    const char *name; /* "" for a flat set */
    size_t first, n;  /* frames */
};
struct eval_input;

int eval_input_open(const struct evaluate_opts *o, const struct protocol *p, struct eval_input **out, struct err *e);
void eval_input_close(struct eval_input *in); /* NULL is fine */
size_t eval_input_frames(const struct eval_input *in, const struct eval_frame **out);
size_t eval_input_sequences(const struct eval_input *in, const struct eval_sequence **out);
/* Files that are no images were skipped: a note for the report, or NULL. */
const char *eval_input_note(const struct eval_input *in);

struct frame;
/* Reads a pair; the prediction comes at the ground truth's size. Any thread. Both frames are the caller's. */
int eval_input_read(const struct eval_input *in, const struct eval_frame *f, struct frame **pred, struct frame **gt,
                    struct err *e);

/* ---- result: evaluate.c ------------------------------------------------------------------------------------------------ */

enum { CURVE_PRECISION, CURVE_RECALL, CURVE_F, CURVE_E, CURVES };

/* Mean values and curves of some frames: a sequence, a block of a flat set, the whole. */
struct eval_unit {
    size_t first, n; /* measured frames, in the list of measured ones */
    bool block;      /* a run of frames of one sequence */
    double value[METRIC_COUNT];
    size_t known_t; /* pairs of frames behind temporal_stability */
    double curve[CURVES][METRIC_THRESHOLDS];
};

struct eval_item { /* a measured frame */
    size_t frame, sequence, block;
    double value[METRIC_COUNT]; /* NaN where a metric is not one of a frame */
};

struct eval_gate {
    bool drop; /* max_drop, else min */
    int metric;
    double limit, value, baseline, change; /* change: how much worse than the baseline */
    double low, high;                      /* 95% interval of the change; NaN when unknown */
    enum { GATE_PASS, GATE_NOISE, GATE_FAIL } status;
    char message[240];
};

#define EVAL_UNITS_MAX 256   /* blocks, about */
#define EVAL_FEW_SEQUENCES 8 /* fewer are too few to judge drops by; blocks are kept */
#define EVAL_NOTES_MAX 8

struct evaluation {
    struct protocol protocol;
    struct eval_input *input; /* owns all names */
    struct eval_item *items;
    size_t n_items;
    struct eval_unit *sequences; /* one for each of the input */
    size_t n_sequences;
    struct eval_unit *blocks; /* runs of frames within sequences, when there are few */
    size_t n_blocks;
    struct eval_unit overall;
    double low[METRIC_COUNT], high[METRIC_COUNT]; /* 95% bootstrap interval; NaN when unknown */
    int resamples;
    uint64_t seed;
    struct eval_gate *gates;
    size_t n_gates;
    size_t *worst; /* items */
    size_t n_worst;
    int worst_by; /* metric */
    bool per_frame;
    char *model, *data; /* or NULL */
    char *notes[EVAL_NOTES_MAX];
    size_t n_notes;
};

void evaluation_note(struct evaluation *ev, const char *fmt, ...) ERR_PRINTF(2, 3);
/* "sequence/stem" of a measured frame; out[EVAL_NAME_SIZE] */
#define EVAL_NAME_SIZE 256
const char *eval_item_name(const struct evaluation *ev, const struct eval_item *item, char *out);
/* The overall values of units taken `times` each. NULL: once each, and precision and recall curves too. */
void eval_combine(const struct protocol *p, const struct eval_unit *u, size_t n, const int *times,
                  struct eval_unit *out);
/* What the bootstrap draws from: sequences, or blocks when there is one sequence. */
const struct eval_unit *eval_draws(const struct evaluation *ev, size_t *n);
/* evaluate_gate.c */
int eval_intervals(struct evaluation *ev, struct err *e);
/* Names, numbers and the baseline's JSON, before the work is done. */
int eval_gates_check(const struct evaluate_opts *o, struct err *e);
int eval_gates(struct evaluation *ev, const struct evaluate_opts *o, struct err *e);

#endif
