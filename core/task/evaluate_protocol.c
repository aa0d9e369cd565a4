/*
 * Protocols: one table of choices, three columns of defaults. A protocol is its column with single choices replaced.
 *
 * pysod   PySODMetrics: every image counts the same, thresholds on 8 bits.
 * davsod  the DAVSOD tool (Fan et al., CVPR 2019): first and last frame of a sequence skipped, means within sequences
 *         and then over them, thresholds in double.
 * davis   DAVIS 2016 (Perazzi et al.): first and last frame skipped, statistics within sequences and then over them.
 */
#include "core/task/evaluate_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { PROTOCOLS = 3 };
static const char *const protocol_names[PROTOCOLS] = {"pysod", "davsod", "davis"};

static const struct {
    const char *name, *words;
    double lo, hi, own[PROTOCOLS];
} table[CHOICE_COUNT] = {
#define WORD(id, n, w, a, b, c, what) [CHOICE_##id] = {.name = #n, .words = w, .own = {a, b, c}},
#define NUMBER(id, n, l, h, a, b, c, what) [CHOICE_##id] = {.name = #n, .lo = l, .hi = h, .own = {a, b, c}},
#include "core/task/evaluate.def"
#undef WORD
#undef NUMBER
};

const struct evaluate_choice_info evaluate_choices[] = {
#define WORD(id, name, words, a, b, c, what) {#name, words, what},
#define NUMBER(id, name, lo, hi, a, b, c, what) {#name, #lo ".." #hi, what},
#include "core/task/evaluate.def"
#undef WORD
#undef NUMBER
    {NULL, NULL, NULL}};

const char *choice_name(enum choice_id id)
{
    return table[id].name;
}

/* Position of `word` among "a|b|c", or -1. */
static int word_position(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (int i = 0; *words; i++) {
        size_t n = strcspn(words, "|");
        if (n == len && memcmp(words, word, n) == 0)
            return i;
        words += n + (words[n] == '|');
    }
    return -1;
}

const char *choice_word(enum choice_id id, double value, size_t *len)
{
    const char *words = table[id].words;
    for (int i = 0; words && i < (int)value; i++)
        words = strchr(words, '|') + 1;
    *len = words ? strcspn(words, "|") : 0;
    return words;
}

static int parse_choice(enum choice_id id, const char *text, double *out, struct err *e)
{
    if (table[id].words) {
        int at = word_position(table[id].words, text);
        if (at < 0)
            return err_set(e, ERR_INVALID, "%s '%s': must be one of %s", table[id].name, text, table[id].words);
        *out = at;
        return 0;
    }
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    bool whole = id == CHOICE_BOUNDARY_TOLERANCE || v == (double)(int)v;
    if (errno || end == text || *end || !(v >= table[id].lo && v <= table[id].hi) || !whole)
        return err_set(e, ERR_INVALID, "%s '%s': must be a%s number from %g to %g", table[id].name, text,
                       id == CHOICE_BOUNDARY_TOLERANCE ? "" : " whole", table[id].lo, table[id].hi);
    *out = v;
    return 0;
}

static int find_choice(const char *name)
{
    for (int i = 0; i < CHOICE_COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return i;
    return -1;
}

int protocol_make(struct protocol *p, const char *name, const struct evaluate_choice *c, size_t n, struct err *e)
{
    int column = 0;
    *p = (struct protocol){.name = NULL};
    while (column < PROTOCOLS && strcmp(protocol_names[column], name ? name : "pysod") != 0)
        column++;
    if (column == PROTOCOLS)
        return err_set(e, ERR_INVALID, "no protocol '%s': pysod, davsod or davis", name);
    p->name = protocol_names[column];
    for (int i = 0; i < CHOICE_COUNT; i++)
        p->value[i] = table[i].own[column];
    for (size_t k = 0; k < n; k++) {
        int id = find_choice(c[k].name);
        if (id < 0)
            return err_set(e, ERR_INVALID, "protocols have no choice '%s'", c[k].name);
        int rc = parse_choice((enum choice_id)id, c[k].value, &p->value[id], e);
        if (rc)
            return rc;
        p->changed[id] = p->value[id] != table[id].own[column];
    }
    return 0;
}

struct metric_opts protocol_metric(const struct protocol *p)
{
    return (struct metric_opts){
        .gt_above = (int)p->value[CHOICE_GT_THRESHOLD],
        .pred_from = (int)p->value[CHOICE_PRED_THRESHOLD],
        .minmax = p->value[CHOICE_NORMALIZE] == 0,
        .cut = p->value[CHOICE_THRESHOLDS] == 0 ? METRIC_CUT_U8 : METRIC_CUT_DOUBLE,
        .boundary_tolerance = p->value[CHOICE_BOUNDARY_TOLERANCE],
    };
}
