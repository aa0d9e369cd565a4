/*
 * Structured log lines (logfmt) on stderr: ts, level, msg, the thread's context fields, then the call's fields.
 *   log_info(LOG_MSG("job finished"), LOG_STR("job", id), LOG_INT("frames", n));
 * One write(2) per line, so lines of several processes never interleave. Values are quoted when they need it.
 */
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include <stdint.h>

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARN, LOG_LEVEL_ERROR };

struct log_field {
    const char *key; /* NULL ends the list */
    enum { LOG_KIND_STR, LOG_KIND_INT, LOG_KIND_FLOAT } kind;
    const char *s;
    int64_t i;
    double f;
};

#define LOG_MSG(text)                                   \
    {                                                   \
        .key = "msg", .kind = LOG_KIND_STR, .s = (text) \
    }
#define LOG_STR(k, v)                              \
    {                                              \
        .key = (k), .kind = LOG_KIND_STR, .s = (v) \
    }
#define LOG_INT(k, v)                                       \
    {                                                       \
        .key = (k), .kind = LOG_KIND_INT, .i = (int64_t)(v) \
    }
#define LOG_FLOAT(k, v)                                      \
    {                                                        \
        .key = (k), .kind = LOG_KIND_FLOAT, .f = (double)(v) \
    }
#define LOG_AT(level, ...) log_write((level), (const struct log_field[]){__VA_ARGS__, {.key = 0}})
#define log_debug(...) LOG_AT(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) LOG_AT(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warn(...) LOG_AT(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_error(...) LOG_AT(LOG_LEVEL_ERROR, __VA_ARGS__)

void log_write(enum log_level level, const struct log_field *fields);
void log_set_level(enum log_level min_level);
/* Parses "debug|info|warn|error"; returns 0 or ERR_INVALID. */
int log_parse_level(const char *text, enum log_level *out);
/* Context of the calling thread (key must be a literal; value is copied, at most 63 bytes; NULL removes). At most 6
 * keys. Used for request_id, job, worker, traceparent. */
void log_context(const char *key, const char *value);

#endif
