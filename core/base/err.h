/*
 * Errors. A fallible function returns 0 or a negative ERR_* and fills the caller's `struct err`.
 * Set where detected (err_set), given context once per layer (err_wrap), logged once at the boundary.
 * Every function accepts a NULL `struct err *`.
 */
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

#ifdef __cplusplus
extern "C" {
#endif

enum err_code {
    ERR_OK = 0,
#define X(id, name, value, text) ERR_##id = (value),
#include "core/base/err.def"
#undef X
};

struct err {
    int code;       /* ERR_* or 0 */
    char msg[1000]; /* one line for a person: what and where; never empty when code is set */
};

#if defined(__GNUC__)
#define ERR_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define ERR_PRINTF(f, a)
#endif

/* Sets code and message; returns code, so `return err_set(e, ERR_IO, ...)` reads well. */
int err_set(struct err *e, int code, const char *fmt, ...) ERR_PRINTF(3, 4);
/* As err_set, from errno: ENOSPC/EDQUOT give ERR_FULL, ENOMEM ERR_NOMEM, ENOENT ERR_NOTFOUND, EEXIST ERR_EXISTS, else
 * ERR_IO; appends strerror. */
int err_errno(struct err *e, const char *fmt, ...) ERR_PRINTF(2, 3);
/* Puts "context: " before the message that is there; returns e's code. */
int err_wrap(struct err *e, const char *fmt, ...) ERR_PRINTF(2, 3);
/* "ERR_IO" style name without the prefix in lower case ("io"), stable: used as the problem+json `code`. */
const char *err_name(int code);
/* The table's text for a code. */
const char *err_text(int code);

#ifdef __clang_analyzer__
/* What the analyser cannot see across files: these never return 0. */
#define err_set(e, code, ...) ((void)(err_set)(e, code, __VA_ARGS__), (code))
#define err_errno(e, ...) ((void)(err_errno)(e, __VA_ARGS__), (int)ERR_IO)
#define err_wrap(e, ...) ((void)(err_wrap)(e, __VA_ARGS__), (int)ERR_INTERNAL)
#endif

/* Programmer errors abort with file, line and expression. */
#define BUG_ON(x)                            \
    do {                                     \
        if (x)                               \
            err_bug(__FILE__, __LINE__, #x); \
    } while (0)
__attribute__((noreturn)) void err_bug(const char *file, int line, const char *expr);

#ifdef __cplusplus
}
#endif
#endif
