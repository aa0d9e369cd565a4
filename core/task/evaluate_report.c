/*
 * Reports: JSON (everything, numbers to 17 digits, null for what is undefined), Markdown for a pull-request comment,
 * JUnit XML with a test case for every gate.
 */
#include "core/task/evaluate_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static const char *const status_names[] = {[GATE_PASS] = "pass", [GATE_NOISE] = "noise", [GATE_FAIL] = "fail"};

/* ---- JSON ------------------------------------------------------------------------------------------------------------ */

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static void put_metrics(json_t *o, const double *v, bool frame)
{
    for (int m = 0; m < METRIC_COUNT; m++) {
        bool none = m == METRIC_J_RECALL || m == METRIC_F_RECALL || m == METRIC_J_DECAY || m == METRIC_F_DECAY;
        if (!frame || !none)
            json_object_set_new(o, metric_name((enum metric_id)m), number(v[m]));
    }
}

static json_t *protocol_json(const struct evaluation *ev)
{
    json_t *o = json_object(), *changed = json_array(), *lower = json_array();
    json_object_set_new(o, "name", json_string(ev->protocol.name));
    for (int i = 0; i < CHOICE_COUNT; i++) {
        size_t len;
        const char *word = choice_word((enum choice_id)i, ev->protocol.value[i], &len), *name = choice_name(i);
        double v = ev->protocol.value[i];
        json_object_set_new(o, name,
                            word                             ? json_stringn(word, len)
                            : i == CHOICE_BOUNDARY_TOLERANCE ? json_real(v)
                                                             : json_integer((json_int_t)v));
        if (ev->protocol.changed[i])
            json_array_append_new(changed, json_string(name));
    }
    for (int m = 0; m < METRIC_COUNT; m++)
        if (metric_lower_is_better((enum metric_id)m))
            json_array_append_new(lower, json_string(metric_name((enum metric_id)m)));
    json_object_set_new(o, "overridden", changed);
    json_object_set_new(o, "beta2", json_real(0.3));
    json_object_set_new(o, "weighted_f_beta", json_real(1));
    json_object_set_new(o, "s_alpha", json_real(0.5));
    json_object_set_new(o, "undefined", json_string("null where the reference tool gives NaN"));
    json_object_set_new(o, "lower_is_better", lower);
    return o;
}

static json_t *interval(double low, double high)
{
    return isfinite(low) && isfinite(high) ? json_pack("[f,f]", low, high) : json_null();
}

static json_t *confidence_json(const struct evaluation *ev)
{
    json_t *o = json_pack("{s:f,s:s,s:s,s:i,s:I}", "level", 0.95, "method", "percentile bootstrap", "over",
                          ev->n_sequences > 1 ? "sequences" : "frames", "resamples", ev->resamples, "seed",
                          (json_int_t)ev->seed);
    json_t *all = json_object();
    for (int m = 0; m < METRIC_COUNT; m++)
        json_object_set_new(all, metric_name((enum metric_id)m), interval(ev->low[m], ev->high[m]));
    json_object_set_new(o, "intervals", all);
    return o;
}

static json_t *gates_json(const struct evaluation *ev)
{
    json_t *list = json_array();
    for (size_t i = 0; i < ev->n_gates; i++) {
        const struct eval_gate *g = &ev->gates[i];
        json_t *o = json_pack("{s:s,s:s,s:b,s:s,s:f,s:o}", "gate", g->drop ? "max_drop" : "min", "metric",
                              metric_name((enum metric_id)g->metric), "pass", g->status != GATE_FAIL, "status",
                              status_names[g->status], "limit", g->limit, "value", number(g->value));
        if (g->drop) {
            json_object_set_new(o, "baseline", number(g->baseline));
            json_object_set_new(o, "drop", number(g->change));
            json_object_set_new(o, "drop_interval", interval(g->low, g->high));
        }
        json_object_set_new(o, "message", json_string(g->message));
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *curves_json(const struct evaluation *ev)
{
    static const char *const names[CURVES] = {
        [CURVE_PRECISION] = "precision", [CURVE_RECALL] = "recall", [CURVE_F] = "f", [CURVE_E] = "e"};
    json_t *o = json_object();
    for (int c = 0; c < CURVES; c++) {
        json_t *v = json_array();
        for (int t = 0; t < METRIC_THRESHOLDS; t++)
            json_array_append_new(v, number(ev->overall.curve[c][t]));
        json_object_set_new(o, names[c], v);
    }
    return o;
}

static json_t *frame_json(const struct evaluation *ev, const struct eval_item *item, bool with_sequence)
{
    const struct eval_frame *frames;
    const struct eval_sequence *seq;
    eval_input_frames(ev->input, &frames);
    eval_input_sequences(ev->input, &seq);
    json_t *o = json_object();
    if (with_sequence)
        json_object_set_new(o, "sequence", json_string(seq[item->sequence].name));
    json_object_set_new(o, "frame", json_string(frames[item->frame].stem));
    put_metrics(o, item->value, true);
    return o;
}

static json_t *sequences_json(const struct evaluation *ev)
{
    const struct eval_sequence *seq;
    eval_input_sequences(ev->input, &seq);
    json_t *list = json_array();
    for (size_t s = 0; s < ev->n_sequences; s++) {
        const struct eval_unit *u = &ev->sequences[s];
        json_t *o = json_pack("{s:s,s:I}", "name", seq[s].name, "frames", (json_int_t)u->n);
        if (!o) /* a name that is not UTF-8 */
            o = json_pack("{s:s%,s:I}", "name", "?", (size_t)1, "frames", (json_int_t)u->n);
        put_metrics(o, u->value, false);
        if (ev->per_frame) {
            json_t *v = json_array();
            for (size_t i = 0; i < u->n; i++)
                json_array_append_new(v, frame_json(ev, &ev->items[u->first + i], false));
            json_object_set_new(o, "per_frame", v);
        }
        json_array_append_new(list, o);
    }
    return list;
}

/* What later runs pair few sequences by. */
static json_t *blocks_json(const struct evaluation *ev)
{
    const struct eval_frame *frames;
    const struct eval_sequence *seq;
    eval_input_frames(ev->input, &frames);
    eval_input_sequences(ev->input, &seq);
    json_t *list = json_array();
    for (size_t b = 0; b < ev->n_blocks; b++) {
        const struct eval_unit *u = &ev->blocks[b];
        json_t *o = json_object();
        const struct eval_item *first = &ev->items[u->first];
        json_object_set_new(o, "sequence", json_string(seq[first->sequence].name));
        json_object_set_new(o, "first", json_string(frames[first->frame].stem));
        json_object_set_new(o, "frames", json_integer((json_int_t)u->n));
        put_metrics(o, u->value, true);
        json_array_append_new(list, o);
    }
    return list;
}

static json_t *document(const struct evaluation *ev)
{
    json_t *o = json_object(), *worst = json_array(), *notes = json_array(), *overall = json_object();
    put_metrics(overall, ev->overall.value, false);
    for (size_t i = 0; i < ev->n_worst; i++)
        json_array_append_new(worst, frame_json(ev, &ev->items[ev->worst[i]], true));
    for (size_t i = 0; i < ev->n_notes; i++)
        json_array_append_new(notes, json_string(ev->notes[i]));
    json_object_set_new(o, "pass", json_boolean(evaluation_pass(ev)));
    if (ev->model)
        json_object_set_new(o, "model", json_string(ev->model));
    if (ev->data)
        json_object_set_new(o, "data", json_string(ev->data));
    json_object_set_new(o, "frames", json_integer((json_int_t)ev->n_items));
    json_object_set_new(o, "protocol", protocol_json(ev));
    json_object_set_new(o, "overall", overall);
    json_object_set_new(o, "confidence", confidence_json(ev));
    json_object_set_new(o, "gates", gates_json(ev));
    json_object_set_new(o, "sequences", sequences_json(ev));
    if (ev->n_blocks)
        json_object_set_new(o, "blocks", blocks_json(ev));
    json_object_set_new(o, "worst_by", json_string(metric_name((enum metric_id)ev->worst_by)));
    json_object_set_new(o, "worst", worst);
    json_object_set_new(o, "curves", curves_json(ev));
    json_object_set_new(o, "notes", notes);
    return o;
}

static int dump_to(const char *data, size_t len, void *arg)
{
    buf_append(arg, data, len);
    return 0;
}

int evaluation_json(const struct evaluation *ev, struct buf *out, struct err *e)
{
    json_t *o = document(ev);
    bool ok = o && json_dump_callback(o, dump_to, out, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) == 0 && !out->failed;
    json_decref(o);
    if (ok)
        buf_putc(out, '\n');
    return ok && !out->failed ? 0 : err_set(e, ERR_NOMEM, "no memory for the report");
}

/* ---- Markdown -------------------------------------------------------------------------------------------------------- */

/* File names in a table: the characters that would end the cell or start markup are escaped. */
static void md_text(struct buf *b, const char *s)
{
    for (; *s; s++) {
        if (strchr("|\\`*_<>[]#", *s))
            buf_putc(b, '\\');
        buf_putc(b, *s == '\n' || *s == '\r' ? ' ' : *s);
    }
}

static void md_number(struct buf *b, double v)
{
    if (isnan(v))
        buf_puts(b, "n/a");
    else
        buf_printf(b, "%.4f", v);
}

static void md_gates(const struct evaluation *ev, struct buf *b)
{
    static const char *const icons[] = {[GATE_PASS] = "pass", [GATE_NOISE] = "pass (noise)", [GATE_FAIL] = "**FAIL**"};
    if (ev->n_gates == 0)
        return;
    buf_puts(b, "| gate | result | |\n|---|---|---|\n");
    for (size_t i = 0; i < ev->n_gates; i++) {
        const struct eval_gate *g = &ev->gates[i];
        buf_printf(b, "| %s `%s` | %s | ", g->drop ? "max drop" : "min", metric_name((enum metric_id)g->metric),
                   icons[g->status]);
        md_text(b, g->message);
        buf_puts(b, " |\n");
    }
    buf_putc(b, '\n');
}

static void md_protocol(const struct evaluation *ev, struct buf *b)
{
    buf_printf(b, "Protocol `%s`", ev->protocol.name);
    for (int i = 0; i < CHOICE_COUNT; i++) {
        size_t len;
        const char *word = choice_word((enum choice_id)i, ev->protocol.value[i], &len);
        const char *mark = ev->protocol.changed[i] ? "**" : "";
        if (word)
            buf_printf(b, ", %s%s %.*s%s", mark, choice_name((enum choice_id)i), (int)len, word, mark);
        else
            buf_printf(b, ", %s%s %g%s", mark, choice_name((enum choice_id)i), ev->protocol.value[i], mark);
    }
    buf_puts(b, "\n\n");
}

static void md_overall(const struct evaluation *ev, struct buf *b)
{
    buf_puts(b, "| metric | value | 95% interval |\n|---|---:|---|\n");
    for (int m = 0; m < METRIC_COUNT; m++) {
        bool lower = metric_lower_is_better((enum metric_id)m);
        buf_printf(b, "| `%s`%s | ", metric_name((enum metric_id)m), lower ? " (lower is better)" : "");
        md_number(b, ev->overall.value[m]);
        if (isfinite(ev->low[m]))
            buf_printf(b, " | %.4f to %.4f |\n", ev->low[m], ev->high[m]);
        else
            buf_puts(b, " | |\n");
    }
}

static void md_sequences(const struct evaluation *ev, struct buf *b)
{
    static const enum metric_id shown[] = {METRIC_MAE, METRIC_S_MEASURE, METRIC_WEIGHTED_F, METRIC_MAX_F,
                                           METRIC_JF_MEAN};
    enum { ROWS_MAX = 60 };
    const struct eval_sequence *seq;
    eval_input_sequences(ev->input, &seq);
    if (ev->n_sequences < 2)
        return;
    buf_printf(b, "\n<details><summary>%zu sequences</summary>\n\n| sequence | frames |", ev->n_sequences);
    for (size_t k = 0; k < sizeof(shown) / sizeof(shown[0]); k++)
        buf_printf(b, " %s |", metric_name(shown[k]));
    buf_puts(b, "\n|---|---:|---:|---:|---:|---:|---:|\n");
    for (size_t s = 0; s < ev->n_sequences && s < ROWS_MAX; s++) {
        buf_puts(b, "| ");
        md_text(b, seq[s].name);
        buf_printf(b, " | %zu |", ev->sequences[s].n);
        for (size_t k = 0; k < sizeof(shown) / sizeof(shown[0]); k++) {
            buf_putc(b, ' ');
            md_number(b, ev->sequences[s].value[shown[k]]);
            buf_puts(b, " |");
        }
        buf_putc(b, '\n');
    }
    if (ev->n_sequences > ROWS_MAX)
        buf_printf(b, "\n%zu more are in the JSON report.\n", ev->n_sequences - ROWS_MAX);
    buf_puts(b, "\n</details>\n");
}

static void md_worst(const struct evaluation *ev, struct buf *b)
{
    char name[EVAL_NAME_SIZE];
    if (ev->n_worst == 0)
        return;
    buf_printf(b, "\n<details><summary>Worst frames by %s</summary>\n\n| frame | %s |\n|---|---:|\n",
               metric_name((enum metric_id)ev->worst_by), metric_name((enum metric_id)ev->worst_by));
    for (size_t i = 0; i < ev->n_worst; i++) {
        const struct eval_item *item = &ev->items[ev->worst[i]];
        buf_puts(b, "| ");
        md_text(b, eval_item_name(ev, item, name));
        buf_puts(b, " | ");
        md_number(b, item->value[ev->worst_by]);
        buf_puts(b, " |\n");
    }
    buf_puts(b, "\n</details>\n");
}

int evaluation_markdown(const struct evaluation *ev, struct buf *out, struct err *e)
{
    buf_printf(out, "### Saliency evaluation: %s\n\n", evaluation_pass(ev) ? "pass" : "FAIL");
    md_gates(ev, out);
    if (ev->model) {
        buf_puts(out, "Model ");
        md_text(out, ev->model);
        buf_puts(out, ev->data ? " on " : ". ");
    }
    if (ev->data) {
        md_text(out, ev->data);
        buf_puts(out, ". ");
    }
    buf_printf(out, "%zu frames, %zu sequence%s. ", ev->n_items, ev->n_sequences, ev->n_sequences > 1 ? "s" : "");
    md_protocol(ev, out);
    md_overall(ev, out);
    md_sequences(ev, out);
    md_worst(ev, out);
    for (size_t i = 0; i < ev->n_notes; i++) {
        buf_puts(out, "\n> ");
        md_text(out, ev->notes[i]);
        buf_putc(out, '\n');
    }
    return out->failed ? err_set(e, ERR_NOMEM, "no memory for the report") : 0;
}

/* ---- JUnit ----------------------------------------------------------------------------------------------------------- */

/* Text and attribute values; characters XML 1.0 does not allow become '?'. */
static void xml_text(struct buf *b, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '&')
            buf_puts(b, "&amp;");
        else if (c == '<')
            buf_puts(b, "&lt;");
        else if (c == '>')
            buf_puts(b, "&gt;");
        else if (c == '"')
            buf_puts(b, "&quot;");
        else
            buf_putc(b, c < 0x20 && c != '\n' && c != '\t' ? '?' : (char)c);
    }
}

static void junit_values(const struct evaluation *ev, struct buf *b)
{
    buf_puts(b, "    <system-out>");
    const char *const about[][2] = {{"model", ev->model}, {"data", ev->data}};
    for (size_t i = 0; i < 2; i++)
        if (about[i][1]) {
            buf_printf(b, "%s ", about[i][0]);
            xml_text(b, about[i][1]);
            buf_putc(b, '\n');
        }
    buf_printf(b, "protocol %s, %zu frames, %zu sequences\n", ev->protocol.name, ev->n_items, ev->n_sequences);
    for (int m = 0; m < METRIC_COUNT; m++)
        if (isnan(ev->overall.value[m]))
            buf_printf(b, "%s undefined\n", metric_name((enum metric_id)m));
        else
            buf_printf(b, "%s %.9g\n", metric_name((enum metric_id)m), ev->overall.value[m]);
    for (size_t i = 0; i < ev->n_notes; i++) {
        xml_text(b, ev->notes[i]);
        buf_putc(b, '\n');
    }
    buf_puts(b, "    </system-out>\n");
}

int evaluation_junit(const struct evaluation *ev, struct buf *out, struct err *e)
{
    size_t failed = 0;
    for (size_t i = 0; i < ev->n_gates; i++)
        failed += ev->gates[i].status == GATE_FAIL;
    buf_printf(out,
               "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
               "<testsuites tests=\"%zu\" failures=\"%zu\" errors=\"0\">\n"
               "  <testsuite name=\"salient eval\" tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\">\n",
               ev->n_gates + 1, failed, ev->n_gates + 1, failed);
    buf_puts(out, "    <testcase classname=\"salient.eval\" name=\"evaluation completes\"/>\n");
    for (size_t i = 0; i < ev->n_gates; i++) {
        const struct eval_gate *g = &ev->gates[i];
        buf_printf(out, "    <testcase classname=\"salient.eval.%s\" name=\"%s %s %.9g\">",
                   g->drop ? "max_drop" : "min", metric_name((enum metric_id)g->metric), g->drop ? "max drop" : "min",
                   g->limit);
        buf_puts(out, g->status == GATE_FAIL ? "<failure message=\"" : "<system-out>");
        xml_text(out, g->message);
        buf_puts(out, g->status == GATE_FAIL ? "\"/></testcase>\n" : "</system-out></testcase>\n");
    }
    junit_values(ev, out);
    buf_puts(out, "  </testsuite>\n</testsuites>\n");
    return out->failed ? err_set(e, ERR_NOMEM, "no memory for the report") : 0;
}

/* ---- all of them ----------------------------------------------------------------------------------------------------- */

const struct evaluate_report evaluate_reports[] = {
    {"json", "application/json", "report.json", evaluation_json},
    {"md", "text/markdown", "report.md", evaluation_markdown},
    {"junit", "application/junit+xml", "junit.xml", evaluation_junit},
    {"svg", "image/svg+xml", "curves.svg", evaluation_svg},
    {NULL, NULL, NULL, NULL},
};
