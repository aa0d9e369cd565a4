/* Growable byte buffer. Errors are sticky: after a failed allocation every call does nothing and `failed` stays set. */
#ifndef CORE_BASE_BUF_H
#define CORE_BASE_BUF_H

#include <stddef.h>
#include <stdbool.h>

struct buf {
    char *data; /* NUL-terminated after every append (the NUL is not counted) */
    size_t len, cap;
    bool failed;
};

#define BUF_INIT \
    {            \
        0        \
    }

void buf_append(struct buf *b, const void *data, size_t len);
void buf_puts(struct buf *b, const char *s);
void buf_putc(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Makes room for `extra` more bytes; returns the write position or NULL. Advance len yourself. */
void *buf_reserve(struct buf *b, size_t extra);
void buf_reset(struct buf *b); /* keeps the memory */
void buf_free(struct buf *b);
/* Hands the memory to the caller (free()), leaves the buffer empty; NULL if failed. */
char *buf_steal(struct buf *b, size_t *len);

#endif
