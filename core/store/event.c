/* event: the bounded log of each job, which the event streams replay. Of progress only the newest is worth replaying.
 */
#include "core/store/job.h"

#include <string.h>

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
