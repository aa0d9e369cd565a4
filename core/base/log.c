/* Structured log lines. A line is built on the stack and written by one write(2); what does not fit is cut with "...".
 */
#include "core/base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"
#include "core/base/err.h"

#define LINE_MAX_BYTES 4000
#define CONTEXT_KEYS 6

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static enum log_level minimum = LOG_LEVEL_INFO;

static _Thread_local struct {
    const char *key;
    char value[64];
} context[CONTEXT_KEYS];

struct line {
    char s[LINE_MAX_BYTES + 8];
    size_t n;
    bool cut;
};

static void put(struct line *l, const char *s, size_t n)
{
    if (l->n + n > LINE_MAX_BYTES) {
        n = LINE_MAX_BYTES - l->n;
        l->cut = true;
    }
    memcpy(l->s + l->n, s, n);
    l->n += n;
}

static bool needs_quotes(const char *s)
{
    if (!*s)
        return true;
    for (; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == '"' || *s == '=' || *s == '\\' || *s == 0x7f)
            return true;
    return false;
}

static void put_value(struct line *l, const char *s)
{
    if (!s)
        s = "-";
    if (!needs_quotes(s)) {
        put(l, s, strlen(s));
        return;
    }
    put(l, "\"", 1);
    for (; *s; s++) {
        char esc[8];
        if (*s == '"' || *s == '\\')
            snprintf(esc, sizeof(esc), "\\%c", *s);
        else if (*s == '\n')
            snprintf(esc, sizeof(esc), "\\n");
        else if ((unsigned char)*s < ' ' || *s == 0x7f)
            snprintf(esc, sizeof(esc), "\\x%02x", (unsigned char)*s);
        else
            snprintf(esc, sizeof(esc), "%c", *s);
        put(l, esc, strlen(esc));
    }
    put(l, "\"", 1);
}

static void put_pair(struct line *l, const char *key, const char *value)
{
    if (l->n)
        put(l, " ", 1);
    put(l, key, strlen(key));
    put(l, "=", 1);
    put_value(l, value);
}

static void put_field(struct line *l, const struct log_field *f)
{
    char num[40];
    switch (f->kind) {
    case LOG_KIND_STR:
        put_pair(l, f->key, f->s);
        return;
    case LOG_KIND_INT:
        snprintf(num, sizeof(num), "%lld", (long long)f->i);
        break;
    case LOG_KIND_FLOAT:
        snprintf(num, sizeof(num), "%.6g", f->f);
        break;
    }
    put_pair(l, f->key, num);
}

void log_write(enum log_level level, const struct log_field *fields)
{
    if (level < minimum)
        return;
    struct line l;
    l.n = 0;
    l.cut = false;
    char ts[CLOCK_RFC3339_SIZE];
    put_pair(&l, "ts", clock_rfc3339(clock_wall_ms(), ts));
    put_pair(&l, "level", level_names[level]);
    const struct log_field *f = fields;
    if (f->key && strcmp(f->key, "msg") == 0)
        put_field(&l, f++);
    for (int i = 0; i < CONTEXT_KEYS; i++)
        if (context[i].key)
            put_pair(&l, context[i].key, context[i].value);
    for (; f->key; f++)
        put_field(&l, f);
    if (l.cut) {
        memcpy(l.s + l.n, "...", 3);
        l.n += 3;
    }
    l.s[l.n++] = '\n';
    ssize_t done = write(STDERR_FILENO, l.s, l.n); /* a log that cannot be written has nowhere to complain */
    (void)done;
}

void log_set_level(enum log_level min_level)
{
    minimum = min_level;
}

int log_parse_level(const char *text, enum log_level *out)
{
    for (size_t i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(text, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return 0;
        }
    }
    return ERR_INVALID;
}

void log_context(const char *key, const char *value)
{
    int slot = -1;
    for (int i = 0; i < CONTEXT_KEYS; i++) {
        if (context[i].key && strcmp(context[i].key, key) == 0) {
            slot = i;
            break;
        }
        if (!context[i].key && slot < 0)
            slot = i;
    }
    BUG_ON(slot < 0 && value);
    if (slot < 0)
        return;
    context[slot].key = value ? key : NULL;
    if (value)
        snprintf(context[slot].value, sizeof(context[slot].value), "%s", value);
}
