/*
 * mask: keyframe masks, every version kept.
 *
 * A put is one transaction that compares the newest version with the expected one, adds the next, makes the frame's
 * label manual and appends the audit. The blob is stored before; storing and the sweep's removal hold the key's lock,
 * so the sweep sees either an old blob that nobody names or a young one, which it leaves alone.
 */
#include "core/store/annotation.h"

#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"

#define MASK_SQL "SELECT " COLUMNS_OF(MASK) " FROM masks"
#define OF_FRAME " WHERE project_id = ?1 AND clip_id = ?2 AND frame = ?3"

void mask_record_fini(struct mask_record *m)
{
    if (m)
        record_fini(&record_mask, m);
}

void mask_list_fini(struct mask_list *l)
{
    record_list_free(&record_mask, l->items, l->n);
    *l = (struct mask_list){0};
}

/* ---- blobs ------------------------------------------------------------------------------------------------------ */

void mask_key(const char *sha256, char out[MASK_KEY_SIZE])
{
    snprintf(out, MASK_KEY_SIZE, "masks/%s", sha256);
}

int mask_store(struct store *s, struct blobs *b, const void *png, size_t len, char sha256[SHA256_HEX_SIZE],
               struct err *e)
{
    char key[MASK_KEY_SIZE];
    sha256_hex(png, len, sha256);
    mask_key(sha256, key);
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    rc = t.db->drv->lock(t.db, key, true, e);
    if (rc >= 0)
        rc = blob_put(b, key, png, len, e); /* also where it exists: that makes it young */
    rc = tx_end(&t, rc, e);
    return rc < 0 ? err_wrap(e, "storing a mask") : 0;
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

int mask_newest(struct db *db, const struct scene *sc, int64_t frame, struct mask_record *out, struct err *e)
{
    return record_one(db, &record_mask, MASK_SQL OF_FRAME " ORDER BY version DESC LIMIT 1",
                      DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(frame)), out, e);
}

static void audit_doc(const struct mask_record *m, struct buf *b)
{
    buf_printf(b, "{\"clip_id\":\"%s\",\"frame\":%lld,\"version\":%lld,\"sha256\":\"%s\",\"objects\":%lld}", m->clip_id,
               (long long)m->frame, (long long)m->version, m->sha256, (long long)m->objects);
}

int audit_mask(struct db *db, const char *action, const struct mask_record *before, const struct mask_record *after,
               const struct actor *a, struct err *e)
{
    struct buf was = BUF_INIT, is = BUF_INIT;
    if (before && before->sha256)
        audit_doc(before, &was);
    if (after && after->sha256)
        audit_doc(after, &is);
    const char *project_id = was.data ? before->project_id : after ? after->project_id : "";
    int rc = was.failed || is.failed ? err_set(e, ERR_NOMEM, "out of memory for the audit")
                                     : audit_project(db, project_id, action, was.data, is.data, a, e);
    buf_free(&was);
    buf_free(&is);
    return rc;
}

static int insert_version(struct db *db, const struct scene *sc, int64_t frame, int64_t version, bool deleted,
                          const char *sha256, int64_t objects, const char *origin, const struct actor *a, struct err *e)
{
    int64_t n =
        db_run(db,
               "INSERT INTO masks (project_id, clip_id, frame, version, deleted, sha256, objects, author,"
               " origin, created_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
               DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(frame), db_i(version), db_i(deleted), db_t(sha256),
                       db_i(objects), db_t(a && a->who ? a->who : ""), db_t(origin), db_i(clock_wall_ms())),
               e);
    return n < 0 ? (int)n : 0;
}

/* What a keyframe is called that nobody gave a name: a correction when a propagated mask stood there. */
static int origin_of(struct db *db, const struct scene *sc, const struct mask_new *n, const char **origin,
                     struct err *e)
{
    struct label_record l;
    *origin = n->origin ? n->origin : "manual";
    int rc = n->origin ? 0 : label_row(db, sc, n->frame, &l, e);
    if (rc != 1)
        return rc;
    if (strcmp(l.source, label_source_name(LABEL_PSEUDO)) == 0)
        *origin = "correction";
    label_record_fini(&l);
    return 0;
}

int mask_add_version(struct db *db, const struct scene *sc, const struct mask_new *n, const char *sha256,
                     const struct mask_record *newest, const struct actor *a, struct mask_record *out, struct err *e)
{
    const char *origin;
    struct label_new l = {
        .frame = n->frame, .source = LABEL_MANUAL, .confidence = 1, .left = -1, .right = -1, .sha256 = sha256};
    int rc = origin_of(db, sc, n, &origin, e);
    if (!rc)
        rc = insert_version(db, sc, n->frame, newest->version + 1, false, sha256, n->objects, origin, a, e);
    if (!rc)
        rc = label_write(db, sc, &l, LABEL_STATE_ACCEPTED, NULL, "label.manual", a, e);
    if (!rc)
        rc = mask_newest(db, sc, n->frame, out, e) == 1 ? 0 : err_set(e, ERR_INTERNAL, "the mask was not inserted");
    return rc ? rc : audit_mask(db, "keyframe.put", newest->deleted ? NULL : newest, out, a, e);
}

/* Whether the newest version (zeroed: none) is the one a client expects. */
static bool as_expected(const struct mask_record *newest, int64_t expected)
{
    bool there = newest->sha256 && !newest->deleted;
    return expected == MASK_ANY_VERSION || (there ? newest->version == expected : expected == 0);
}

/* 0 put, 1 the very bytes are there, 2 another version is there; then *out is the newest. */
static int put_locked(struct db *db, struct blobs *b, const struct mask_new *n, const char *sha256,
                      const struct actor *a, struct mask_record *out, struct err *e)
{
    char key[MASK_KEY_SIZE];
    struct scene sc;
    struct mask_record newest = {0};
    mask_key(sha256, key);
    int rc = scene_lock(db, n->project_id, n->clip_id, &sc, e);
    if (!rc)
        rc = scene_check_frame(&sc, n->frame, e);
    if (!rc)
        rc = mask_newest(db, &sc, n->frame, &newest, e);
    if (rc < 0)
        return rc;
    bool same = newest.sha256 && !newest.deleted && strcmp(newest.sha256, sha256) == 0;
    if (same || !as_expected(&newest, n->expected)) {
        *out = newest;
        return same ? 1 : 2;
    }
    rc = db->drv->lock(db, key, true, e);
    if (rc >= 0)
        rc = blob_exists(b, key, e);
    if (rc == 0)
        rc = err_set(e, ERR_BUSY, "the mask was removed while it was stored");
    if (rc > 0)
        rc = mask_add_version(db, &sc, n, sha256, &newest, a, out, e);
    mask_record_fini(&newest);
    return rc;
}

static int conflict(struct mask_record *out, struct err *e)
{
    if (out->deleted)
        mask_record_fini(out);
    return err_set(e, ERR_CONFLICT,
                   out->sha256 ? "the keyframe was changed since: it has version %lld"
                               : "the frame has no keyframe any more",
                   (long long)out->version);
}

int mask_put(struct store *s, struct blobs *b, const struct mask_new *n, const struct actor *a, struct mask_record *out,
             struct err *e)
{
    char sha256[SHA256_HEX_SIZE];
    *out = (struct mask_record){0};
    int rc = mask_store(s, b, n->png, n->len, sha256, e);
    struct tx t;
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, put_locked(t.db, b, n, sha256, a, out, e), e);
    if (rc < 0)
        mask_record_fini(out);
    return rc == 2 ? conflict(out, e) : rc < 0 ? rc : 0;
}

int mask_get(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t version,
             struct mask_record *out, struct err *e)
{
    *out = (struct mask_record){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_mask, MASK_SQL OF_FRAME " AND (?4 = 0 OR version = ?4) ORDER BY version DESC LIMIT 1",
                    DB_ARGS(db_t(project_id), db_t(clip_id), db_i(frame), db_i(version)), out, e);
    rc = tx_end(&t, rc, e);
    if (rc < 0)
        return rc;
    if (rc == 1 && !out->deleted)
        return 0;
    mask_record_fini(out);
    return version ? err_set(e, ERR_NOTFOUND, "frame %lld has no mask of version %lld", (long long)frame,
                             (long long)version)
                   : err_set(e, ERR_NOTFOUND, "frame %lld is no keyframe", (long long)frame);
}

static int list(struct store *s, const char *sql, const struct db_arg *args, size_t n, struct mask_list *out,
                struct err *e)
{
    *out = (struct mask_list){0};
    void *items = NULL;
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (!rc)
        rc = tx_end(&t, record_list(t.db, &record_mask, sql, args, n, &items, &out->n, e), e);
    out->items = items;
    return rc;
}

int mask_list(struct store *s, const char *project_id, const char *clip_id, struct mask_list *out, struct err *e)
{
    return list(s,
                MASK_SQL " WHERE project_id = ?1 AND clip_id = ?2 AND deleted = 0 AND NOT EXISTS (SELECT 1 FROM masks n"
                         " WHERE n.project_id = masks.project_id AND n.clip_id = masks.clip_id AND"
                         " n.frame = masks.frame AND n.version > masks.version) ORDER BY frame",
                DB_ARGS(db_t(project_id), db_t(clip_id)), out, e);
}

int mask_versions(struct store *s, const char *project_id, const char *clip_id, int64_t frame, struct mask_list *out,
                  struct err *e)
{
    return list(s, MASK_SQL OF_FRAME " ORDER BY version", DB_ARGS(db_t(project_id), db_t(clip_id), db_i(frame)), out,
                e);
}

/* ---- deletion --------------------------------------------------------------------------------------------------- */

/* Reviews of labels that came from the keyframe rest on a mask that is gone: they are open again. */
static int reopen_reviews(struct db *db, const struct scene *sc, int64_t frame, const struct actor *a, struct err *e)
{
    for (;;) {
        struct label_record before, after;
        int rc = record_one(db, &record_label,
                            "SELECT " COLUMNS_OF(LABEL) " FROM labels WHERE project_id = ?1 AND clip_id = ?2 AND"
                                                        " (left_frame = ?3 OR right_frame = ?3) AND source = 'pseudo'"
                                                        " AND state <> 'proposed' ORDER BY frame LIMIT 1",
                            DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(frame)), &before, e);
        if (rc != 1)
            return rc;
        int64_t n =
            db_run(db,
                   "UPDATE labels SET state = 'proposed', version = version + 1, updated_ms = ?4"
                   " WHERE project_id = ?1 AND clip_id = ?2 AND frame = ?3",
                   DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(before.frame), db_i(clock_wall_ms())), e);
        rc = n < 0 ? (int)n : label_row(db, sc, before.frame, &after, e);
        if (rc == 1) {
            rc = audit_label(db, "label.reopen", &before, &after, a, e);
            label_record_fini(&after);
        }
        label_record_fini(&before);
        if (rc < 0)
            return rc;
    }
}

static int delete_version(struct db *db, const struct scene *sc, const struct mask_record *newest,
                          const struct actor *a, struct err *e)
{
    struct label_new uncovered = {.frame = newest->frame, .source = LABEL_UNCOVERED, .left = -1, .right = -1};
    int rc = insert_version(db, sc, newest->frame, newest->version + 1, true, newest->sha256, newest->objects,
                            newest->origin, a, e);
    if (!rc)
        rc = label_write(db, sc, &uncovered, LABEL_STATE_PROPOSED, NULL, "label.uncovered", a, e);
    if (!rc)
        rc = reopen_reviews(db, sc, newest->frame, a, e);
    return rc ? rc : audit_mask(db, "keyframe.delete", newest, NULL, a, e);
}

static int delete_locked(struct db *db, const char *project_id, const char *clip_id, int64_t frame, int64_t expected,
                         const struct actor *a, struct err *e)
{
    struct scene sc;
    struct mask_record newest = {0};
    int rc = scene_lock(db, project_id, clip_id, &sc, e);
    if (!rc)
        rc = mask_newest(db, &sc, frame, &newest, e);
    if (rc < 0)
        return rc;
    if (rc == 0 || newest.deleted)
        rc = err_set(e, ERR_NOTFOUND, "frame %lld is no keyframe", (long long)frame);
    else if (!as_expected(&newest, expected))
        rc = err_set(e, ERR_CONFLICT, "the keyframe was changed since: it has version %lld", (long long)newest.version);
    else
        rc = delete_version(db, &sc, &newest, a, e);
    mask_record_fini(&newest);
    return rc;
}

int mask_delete(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t expected,
                const struct actor *a, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, delete_locked(t.db, project_id, clip_id, frame, expected, a, e), e);
}
