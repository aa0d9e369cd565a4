/*
 * Training record. An event file is a sequence of TFRecords, each {u64 length, masked CRC32C of it, bytes, masked
 * CRC32C of them}, holding an Event message; the few protobuf fields that scalars need are written by hand
 * (event.proto, summary.proto).
 */
#include "core/train/journal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/buf.h"
#include "core/base/clock.h"
#include "core/base/fs.h"

struct journal {
    FILE *lines, *events;
    struct buf line;
};

#define LOG_MAX_BYTES ((size_t)64 << 20)

/* ---- event file
 * ------------------------------------------------------------------------------------------------------ */

static uint32_t crc32c(const void *data, size_t len)
{
    const uint8_t *p = data;
    uint32_t crc = ~0U;
    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++)
            crc = (crc >> 1) ^ (0x82F63B78U & (0U - (crc & 1U)));
    }
    return ~crc;
}

static void put_le(struct buf *b, uint64_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        buf_putc(b, (char)(v >> (8 * i)));
}

static void put_varint(struct buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_putc(b, (char)(v | 0x80));
    buf_putc(b, (char)v);
}

static void put_bytes(struct buf *b, int field, const void *data, size_t len)
{
    put_varint(b, (uint64_t)field << 3 | 2);
    put_varint(b, len);
    buf_append(b, data, len);
}

static uint32_t masked_crc(const void *data, size_t len)
{
    uint32_t c = crc32c(data, len);
    return ((c >> 15) | (c << 17)) + 0xA282EAD8U;
}

static void put_record(struct buf *out, const struct buf *event)
{
    struct buf length = BUF_INIT;
    put_le(&length, event->len, 8);
    buf_append(out, length.data, length.len);
    put_le(out, length.failed ? 0 : masked_crc(length.data, length.len), 4);
    buf_append(out, event->data, event->len);
    put_le(out, masked_crc(event->data, event->len), 4);
    buf_free(&length);
}

/* Event {1: double wall_time} */
static void put_wall_time(struct buf *event)
{
    double now = (double)clock_wall_ms() / 1000;
    uint64_t bits;
    memcpy(&bits, &now, sizeof(bits));
    put_varint(event, 1 << 3 | 1);
    put_le(event, bits, 8);
}

/* Event {2: int64 step, 5: Summary {1: Value {1: tag, 2: float simple_value}}} */
static void put_scalar(struct buf *out, int64_t step, const struct journal_value *v)
{
    struct buf value = BUF_INIT, summary = BUF_INIT, event = BUF_INIT;
    float f = (float)v->value;
    uint32_t bits;
    memcpy(&bits, &f, sizeof(bits));
    put_bytes(&value, 1, v->key, strlen(v->key));
    put_varint(&value, 2 << 3 | 5);
    put_le(&value, bits, 4);
    put_bytes(&summary, 1, value.data, value.len);
    put_wall_time(&event);
    put_varint(&event, 2 << 3 | 0);
    put_varint(&event, (uint64_t)step);
    put_bytes(&event, 5, summary.data, summary.len);
    put_record(out, &event);
    out->failed |= value.failed || summary.failed || event.failed;
    buf_free(&value);
    buf_free(&summary);
    buf_free(&event);
}

static int write_out(FILE *f, struct buf *b, const char *what, struct err *e)
{
    int rc = 0;
    if (b->failed)
        rc = err_set(e, ERR_NOMEM, "%s: out of memory", what);
    else if (fwrite(b->data, 1, b->len, f) != b->len || fflush(f))
        rc = err_errno(e, "%s", what);
    buf_free(b);
    return rc;
}

static int open_events(struct journal *j, const char *dir, struct err *e)
{
    char name[64], path[FS_PATH_MAX];
    snprintf(name, sizeof(name), "events.out.tfevents.%lld.salient", (long long)(clock_wall_ms() / 1000));
    int rc = fs_join(path, dir, name, e);
    if (rc)
        return rc;
    j->events = fopen(path, "ab");
    if (!j->events)
        return err_errno(e, "%s", path);
    struct buf event = BUF_INIT, out = BUF_INIT;
    put_wall_time(&event);
    put_bytes(&event, 3, "brain.Event:2", strlen("brain.Event:2"));
    put_record(&out, &event);
    buf_free(&event);
    return write_out(j->events, &out, path, e);
}

/* ---- lines
 * ----------------------------------------------------------------------------------------------------------- */

/* Keeps the leading lines up to and including epoch `keep`; lines are our own, so the epoch is their first field. */
static int trim_lines(const char *path, int keep, struct err *e)
{
    struct buf text = BUF_INIT;
    if (!fs_exists(path))
        return 0;
    int rc = keep < 0 ? 0 : fs_read(path, LOG_MAX_BYTES, &text, e);
    size_t end = 0;
    for (size_t at = 0; !rc && at < text.len;) {
        int epoch;
        const char *nl = memchr(text.data + at, '\n', text.len - at);
        if (!nl || sscanf(text.data + at, "{\"epoch\":%d", &epoch) != 1 || epoch > keep)
            break;
        at = end = (size_t)(nl - text.data) + 1;
    }
    if (!rc)
        rc = fs_write_atomic(path, text.data ? text.data : "", end, e);
    buf_free(&text);
    return rc;
}

int journal_open(const char *dir, int keep_epochs, struct journal **out, struct err *e)
{
    char path[FS_PATH_MAX];
    struct journal *j = calloc(1, sizeof(*j));
    *out = NULL;
    if (!j)
        return err_set(e, ERR_NOMEM, "journal: out of memory");
    int rc = fs_join(path, dir, "log.jsonl", e);
    if (!rc)
        rc = trim_lines(path, keep_epochs, e);
    if (!rc && !(j->lines = fopen(path, "ab")))
        rc = err_errno(e, "%s", path);
    if (!rc)
        rc = open_events(j, dir, e);
    if (rc) {
        journal_close(j);
        return rc;
    }
    *out = j;
    return 0;
}

int journal_write(struct journal *j, int epoch, int64_t step, const struct journal_value *values, size_t n,
                  const char **line, struct err *e)
{
    char now[CLOCK_RFC3339_SIZE];
    struct buf events = BUF_INIT, text = BUF_INIT;
    buf_reset(&j->line);
    buf_printf(&j->line, "{\"epoch\":%d,\"step\":%lld,\"time\":\"%s\"", epoch, (long long)step,
               clock_rfc3339(clock_wall_ms(), now));
    for (size_t i = 0; i < n; i++) {
        if (isfinite(values[i].value))
            buf_printf(&j->line, ",\"%s\":%.6g", values[i].key, values[i].value);
        else
            buf_printf(&j->line, ",\"%s\":null", values[i].key);
        put_scalar(&events, step, &values[i]);
    }
    buf_putc(&j->line, '}');
    buf_append(&text, j->line.data, j->line.len);
    buf_putc(&text, '\n');
    if (line)
        *line = j->line.failed ? "" : j->line.data;
    int rc = write_out(j->lines, &text, "log.jsonl", e);
    if (rc) {
        buf_free(&events);
        return rc;
    }
    return write_out(j->events, &events, "event file", e);
}

void journal_close(struct journal *j)
{
    if (!j)
        return;
    if (j->lines)
        fclose(j->lines);
    if (j->events)
        fclose(j->events);
    buf_free(&j->line);
    free(j);
}
