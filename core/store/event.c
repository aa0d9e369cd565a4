/* event: the bounded log of each job, which the event streams replay. Of progress only the newest is worth replaying.
 */
#include "core/store/job.h"

#include <string.h>

/* Length of the valid UTF-8 sequence at s (RFC 3629: no overlong forms, surrogates or beyond U+10FFFF), 0 when there is
 * none. */
static int utf8_len(const unsigned char *s)
{
    if (s[0] < 0x80)
        return 1;
    int n = s[0] >= 0xf0 && s[0] <= 0xf4 ? 4 : s[0] >= 0xe0 && s[0] < 0xf0 ? 3 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : 0;
    for (int i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    if ((s[0] == 0xe0 && s[1] < 0xa0) || (s[0] == 0xed && s[1] > 0x9f) || (s[0] == 0xf0 && s[1] < 0x90) ||
        (s[0] == 0xf4 && s[1] > 0x8f))
        return 0;
    return n;
}

void json_put_string(struct buf *b, const char *s)
{
    buf_putc(b, '"');
    for (const unsigned char *p = (const unsigned char *)s; *p;) {
        int n = utf8_len(p);
        if (n == 0) {
            buf_puts(b, "\\ufffd");
            p++;
        } else if (*p == '"' || *p == '\\') {
            buf_printf(b, "\\%c", *p++);
        } else if (*p < 0x20) {
            buf_printf(b, "\\u%04x", *p++);
        } else {
            buf_append(b, p, (size_t)n);
            p += n;
        }
    }
    buf_putc(b, '"');
}

int event_append(struct db *db, const char *job_id, int64_t seq, const char *type, const char *data, int64_t now_ms,
                 struct err *e)
{
    int64_t n = db_run(db, "INSERT INTO job_events (job_id, seq, type, data, at_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
                       DB_ARGS(db_t(job_id), db_i(seq), db_t(type), db_t(data), db_i(now_ms)), e);
    if (n >= 0)
        n = db_run(db,
                   "DELETE FROM job_events WHERE job_id = ?1 AND (seq <= ?2 OR (?3 = 'progress' AND type = 'progress' "
                   "AND seq < ?4))",
                   DB_ARGS(db_t(job_id), db_i(seq - JOB_EVENTS_KEPT), db_t(type), db_i(seq)), e);
    if (n < 0)
        return (int)n;
    return db->drv->notify(db, STORE_TOPIC_EVENTS, e);
}

int job_events(struct store *s, const char *job_id, int64_t after, int limit, struct event_list *out, struct err *e)
{
    *out = (struct event_list){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc =
        record_list(t.db, &record_event,
                    "SELECT " COLUMNS_OF(EVENT) " FROM job_events WHERE job_id = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                    DB_ARGS(db_t(job_id), db_i(after), db_i(limit < 1 ? 1 : limit)), &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}
