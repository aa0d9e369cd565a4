/*
 * clip: stored clips. The bytes live once under clips/<sha256>, whoever uploaded them; a record belongs to a tenant.
 *
 * Blob first, record second, so that a record always has its bytes; a crash in between leaves an orphan for the deep
 * sweep. What keeps a sweep from removing the blob between the two: it leaves alone what is younger than its grace
 * time, a put makes the blob young, and blob_reserve() takes back a removal that is queued. Should all that take longer than
 * the grace time, the insert sees that the blob is gone and says ERR_BUSY.
 */
#include "core/store/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/clock.h"

void clip_key(const struct clip_record *c, char out[CLIP_KEY_SIZE])
{
    snprintf(out, CLIP_KEY_SIZE, "clips/%s", c->sha256);
}

int blob_confirm(struct db *db, struct blobs *b, const char *key, struct err *e)
{
    int rc = db->drv->lock(db, key, true, e);
    if (rc >= 0)
        rc = blob_exists(b, key, e);
    return rc > 0 ? 0 : rc < 0 ? rc : err_set(e, ERR_BUSY, "%s was removed while it was stored", key);
}

int clip_insert(struct db *db, const struct clip_new *n, struct clip_record *out, struct err *e)
{
    const struct clip_record *c = &n->record;
    char id[ID_SIZE], key[CLIP_KEY_SIZE];
    id_new(id);
    snprintf(key, sizeof(key), "clips/%s", n->sha256);
    int rc = blob_confirm(db, n->blobs, key, e);
    if (rc)
        return rc;
    const char *tenant = c->tenant ? c->tenant : "";
    int64_t made =
        db_run(db,
               "INSERT INTO clips (id, tenant, sha256, name, frames, width, height, fps, duration_s, codec, bytes,"
               " created_ms, expires_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)"
               " ON CONFLICT (tenant, sha256) DO UPDATE SET expires_ms = CASE WHEN clips.expires_ms = 0 OR"
               " excluded.expires_ms = 0 THEN 0 WHEN excluded.expires_ms > clips.expires_ms THEN excluded.expires_ms"
               " ELSE clips.expires_ms END",
               DB_ARGS(db_t(id), db_t(tenant), db_t(n->sha256), db_t(c->name), db_i(c->frames), db_i(c->width),
                       db_i(c->height), db_r(c->fps), db_r(c->duration_s), db_t(c->codec), db_i(n->bytes),
                       db_i(clock_wall_ms()), db_i(c->expires_ms)),
               e);
    if (made < 0)
        return (int)made;
    rc = record_one(db, &record_clip, "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE tenant = ?1 AND sha256 = ?2",
                    DB_ARGS(db_t(tenant), db_t(n->sha256)), out, e);
    if (rc == 1)
        return strcmp(out->id, id) == 0 ? 0 : 1;
    return rc < 0 ? rc : err_set(e, ERR_INTERNAL, "the clip was not inserted");
}

int clip_put(struct store *s, struct blobs *b, const char *path, bool move, struct clip_new *out, struct err *e)
{
    char key[CLIP_KEY_SIZE];
    *out = (struct clip_new){.blobs = b, .bytes = fs_size(path)};
    int rc = out->bytes < 0 ? err_set(e, ERR_NOTFOUND, "%s: not a readable file", path)
                            : sha256_file_hex(path, out->sha256, e);
    if (rc)
        return rc;
    snprintf(key, sizeof(key), "clips/%s", out->sha256);
    int have = blob_reserve(s, key, e);
    rc = have < 0 ? have : have ? 0 : blob_put_file(b, key, path, move, e);
    if (rc < 0)
        return err_wrap(e, "storing the clip");
    if (move && have)
        unlink(path);
    return 0;
}

int clip_add(struct store *s, struct blobs *b, const char *path, bool move, const struct clip_record *c,
             struct clip_record *out, bool *existed, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct clip_new n;
    int rc = clip_put(s, b, path, move, &n, e);
    if (rc)
        return rc;
    n.record = *c;
    return clip_record_new(s, &n, out, existed, e);
}

int clip_record_new(struct store *s, const struct clip_new *n, struct clip_record *out, bool *existed, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, clip_insert(t.db, n, out, e), e);
    if (rc < 0) {
        clip_record_fini(out);
        return err_wrap(e, "storing the clip");
    }
    if (existed)
        *existed = rc == 1;
    return 0;
}

int clip_set_frames(struct store *s, const char *id, int64_t frames, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n =
        db_run(t.db, "UPDATE clips SET frames = ?2 WHERE id = ?1 AND frames <> ?2", DB_ARGS(db_t(id), db_i(frames)), e);
    return tx_end(&t, n < 0 ? (int)n : 0, e);
}

int clip_get(struct store *s, const char *id, struct clip_record *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_clip, "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE id = ?1", DB_ARGS(db_t(id)), out,
                    e);
    if (rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "no clip %s", id);
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

int clip_find(struct store *s, const char *tenant, const char *sha256, struct clip_record *out, struct err *e)
{
    memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_clip, "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE tenant = ?1 AND sha256 = ?2",
                    DB_ARGS(db_t(tenant ? tenant : ""), db_t(sha256)), out, e);
    return tx_end(&t, rc, e);
}

int clip_list(struct store *s, const char *tenant, const char *cursor, int limit, struct clip_list *out, struct err *e)
{
    *out = (struct clip_list){0};
    if (cursor && !id_valid(cursor))
        return err_set(e, ERR_INVALID, "not a cursor of this list");
    limit = limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(
        t.db, &record_clip,
        "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR id < ?2)"
                                   " ORDER BY id DESC LIMIT ?3",
        DB_ARGS(db_t(tenant), db_t(cursor), db_i(limit + 1)), &items, &out->n, e);
    out->items = items;
    rc = tx_end(&t, rc, e);
    if (!rc && out->n > (size_t)limit) {
        clip_record_fini(&out->items[--out->n]);
        out->next_cursor = strdup(out->items[out->n - 1].id);
        if (!out->next_cursor)
            rc = err_set(e, ERR_NOMEM, "out of memory for a list");
    }
    if (rc)
        clip_list_fini(out);
    return rc;
}

static int delete_locked(struct db *db, const char *id, struct err *e)
{
    struct clip_record c;
    int rc = record_one(db, &record_clip, "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE id = ?1 {lock}",
                        DB_ARGS(db_t(id)), &c, e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "no clip %s", id);
    if (c.refs > 0) {
        rc = err_set(e, ERR_CONFLICT, "clip %s is used by %lld unfinished jobs or projects", id, (long long)c.refs);
    } else {
        char key[CLIP_KEY_SIZE];
        clip_key(&c, key);
        int64_t n = db_run(db, "DELETE FROM clips WHERE id = ?1", DB_ARGS(db_t(id)), e);
        rc = n < 0 ? (int)n : gc_add(db, key, clock_wall_ms(), e);
    }
    clip_record_fini(&c);
    return rc;
}

int clip_delete(struct store *s, const char *id, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, delete_locked(t.db, id, e), e);
}
