/*
 * project: annotation projects, the clips in them, and the audit of all that changes in them.
 *
 * A change of a project's settings is a compare-and-swap on its version. Removing a project or a clip removes rows in
 * one transaction and hands the blobs to the sweep, which keeps those that something else still names.
 */
#include "core/store/annotation.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

#define PROJECT_SQL "SELECT " COLUMNS_OF(PROJECT) " FROM projects"

void project_record_fini(struct project_record *p)
{
    if (p)
        record_fini(&record_project, p);
}

void project_list_fini(struct project_list *l)
{
    record_list_free(&record_project, l->items, l->n);
    free(l->next_cursor);
    *l = (struct project_list){0};
}

void audit_list_fini(struct audit_list *l)
{
    record_list_free(&record_audit, l->items, l->n);
    free(l->next_cursor);
    *l = (struct audit_list){0};
}

/* ---- audit ------------------------------------------------------------------------------------------------------ */

int audit_insert(struct db *db, const char *subject, const char *action, const char *before, const char *after,
                 const struct actor *a, struct err *e)
{
    char id[ID_SIZE];
    id_new(id);
    int64_t n = db_run(db,
                       "INSERT INTO audit (id, at_ms, actor, subject, action, before_json, after_json, request_id)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                       DB_ARGS(db_t(id), db_i(clock_wall_ms()), db_t(a && a->who ? a->who : ""), db_t(subject),
                               db_t(action), db_t(before), db_t(after), db_t(a ? a->request_id : NULL)),
                       e);
    return n < 0 ? (int)n : 0;
}

int audit_project(struct db *db, const char *project_id, const char *action, const char *before, const char *after,
                  const struct actor *a, struct err *e)
{
    char subject[80];
    snprintf(subject, sizeof(subject), "projects/%s", project_id);
    return audit_insert(db, subject, action, before, after, a, e);
}

int audit_add(struct store *s, const char *subject, const char *action, const char *before, const char *after,
              const struct actor *a, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, audit_insert(t.db, subject, action, before, after, a, e), e);
}

static int page_limit(int limit)
{
    return limit < 1 ? 1 : limit > 1000 ? 1000 : limit;
}

/* Runs a query that asks for one row more than the page, and turns the row too many into the cursor. The id is the
 * record's first column. */
static int page(struct store *s, const struct record *r, const char *sql, const char *what, const char *cursor,
                int limit, void **items, size_t *n, char **next, struct err *e)
{
    *next = NULL;
    *n = 0;
    *items = NULL;
    if (cursor && !id_valid(cursor))
        return err_set(e, ERR_INVALID, "not a cursor of this list");
    limit = page_limit(limit);
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_list(t.db, r, sql, DB_ARGS(db_t(what), db_t(cursor), db_i(limit + 1)), items, n, e);
    rc = tx_end(&t, rc, e);
    if (rc || *n <= (size_t)limit)
        return rc;
    record_fini(r, (char *)*items + --*n * r->size);
    char *last = (char *)*items + (*n - 1) * r->size + r->columns[0].offset, *id;
    memcpy(&id, last, sizeof(id));
    *next = strdup(id);
    return *next ? 0 : err_set(e, ERR_NOMEM, "out of memory for a list");
}

int audit_list(struct store *s, const char *subject, const char *cursor, int limit, struct audit_list *out,
               struct err *e)
{
    void *items;
    int rc = page(s, &record_audit,
                  "SELECT " COLUMNS_OF(AUDIT) " FROM audit WHERE subject = ?1 AND (?2 IS NULL OR id < ?2)"
                                              " ORDER BY id DESC LIMIT ?3",
                  subject, cursor, limit, &items, &out->n, &out->next_cursor, e);
    out->items = items;
    if (rc)
        audit_list_fini(out);
    return rc;
}

/* ---- projects --------------------------------------------------------------------------------------------------- */

/* 1 and the row, 0 none. */
static int project_row(struct db *db, const char *id, struct project_record *out, struct err *e)
{
    return record_one(db, &record_project, PROJECT_SQL " WHERE id = ?1", DB_ARGS(db_t(id)), out, e);
}

static int project_must(struct db *db, const char *id, struct project_record *out, struct err *e)
{
    int rc = project_row(db, id, out, e);
    return rc == 1 ? 0 : rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "no project %s", id);
}

/* {"name": .., "settings": ..} of a project, for the audit. */
static char *project_audit(const struct project_record *p)
{
    struct buf b = BUF_INIT;
    buf_puts(&b, "{\"name\":");
    json_put_string(&b, p->name);
    buf_printf(&b, ",\"settings\":%s,\"version\":%lld}", p->settings, (long long)p->version);
    return buf_steal(&b, NULL);
}

static int audit_change(struct db *db, const char *action, const struct project_record *before,
                        const struct project_record *after, const struct actor *a, struct err *e)
{
    char *was = before ? project_audit(before) : NULL, *is = after ? project_audit(after) : NULL;
    int rc = (before && !was) || (after && !is)
                 ? err_set(e, ERR_NOMEM, "out of memory for the audit")
                 : audit_project(db, before ? before->id : after->id, action, was, is, a, e);
    free(was);
    free(is);
    return rc;
}

static int create_locked(struct db *db, const char *tenant, const char *name, const char *settings,
                         const struct actor *a, struct project_record *out, struct err *e)
{
    char id[ID_SIZE];
    id_new(id);
    int64_t now = clock_wall_ms();
    int64_t n = db_run(
        db, "INSERT INTO projects (id, tenant, name, settings, created_ms, updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?5)",
        DB_ARGS(db_t(id), db_t(tenant ? tenant : ""), db_t(name), db_t(settings ? settings : "{}"), db_i(now)), e);
    int rc = n < 0 ? (int)n : project_must(db, id, out, e);
    return rc ? rc : audit_change(db, "project.create", NULL, out, a, e);
}

int project_create(struct store *s, const char *tenant, const char *name, const char *settings, const struct actor *a,
                   struct project_record *out, struct err *e)
{
    *out = (struct project_record){0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, create_locked(t.db, tenant, name, settings, a, out, e), e);
    if (rc)
        project_record_fini(out);
    return rc;
}

int project_get(struct store *s, const char *id, struct project_record *out, struct err *e)
{
    *out = (struct project_record){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, project_must(t.db, id, out, e), e);
}

int project_list(struct store *s, const char *tenant, const char *cursor, int limit, struct project_list *out,
                 struct err *e)
{
    void *items;
    int rc = page(s, &record_project,
                  PROJECT_SQL " WHERE (?1 IS NULL OR tenant = ?1) AND (?2 IS NULL OR id < ?2) ORDER BY id DESC"
                              " LIMIT ?3",
                  tenant, cursor, limit, &items, &out->n, &out->next_cursor, e);
    out->items = items;
    if (rc)
        project_list_fini(out);
    return rc;
}

/* 1: somebody changed it since, *out is what it is. */
static int update_locked(struct db *db, const char *id, int64_t version, const char *name, const char *settings,
                         const struct actor *a, struct project_record *out, struct err *e)
{
    struct project_record before;
    int rc = record_one(db, &record_project, PROJECT_SQL " WHERE id = ?1 {lock}", DB_ARGS(db_t(id)), &before, e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "no project %s", id);
    if (version > 0 && before.version != version) {
        *out = before;
        return 1;
    }
    int64_t n =
        db_run(db, "UPDATE projects SET name = ?2, settings = ?3, version = version + 1, updated_ms = ?4 WHERE id = ?1",
               DB_ARGS(db_t(id), db_t(name), db_t(settings), db_i(clock_wall_ms())), e);
    rc = n < 0 ? (int)n : project_must(db, id, out, e);
    if (!rc)
        rc = audit_change(db, "project.update", &before, out, a, e);
    project_record_fini(&before);
    return rc;
}

int project_update(struct store *s, const char *id, int64_t version, const char *name, const char *settings,
                   const struct actor *a, struct project_record *out, struct err *e)
{
    *out = (struct project_record){0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, update_locked(t.db, id, version, name, settings, a, out, e), e);
    if (rc < 0)
        project_record_fini(out);
    return rc == 1
               ? err_set(e, ERR_CONFLICT, "the project was changed since: it has version %lld", (long long)out->version)
               : rc;
}

/* ---- removal ---------------------------------------------------------------------------------------------------- */

/* The blobs that masks and labels of the project name; ?2 NULL: of all its clips. */
static int gc_blobs(struct db *db, const char *project_id, const char *clip_id, struct err *e)
{
    int64_t n = db_run(db,
                       "INSERT INTO blob_gc (key, created_ms) SELECT DISTINCT 'masks/' || sha256, ?3 FROM ("
                       "SELECT sha256, project_id, clip_id FROM masks UNION ALL"
                       " SELECT sha256, project_id, clip_id FROM labels UNION ALL"
                       " SELECT uncertainty_sha256, project_id, clip_id FROM labels) AS b"
                       " WHERE project_id = ?1 AND (?2 IS NULL OR clip_id = ?2) AND sha256 IS NOT NULL"
                       " ON CONFLICT (key) DO NOTHING",
                       DB_ARGS(db_t(project_id), db_t(clip_id), db_i(clock_wall_ms())), e);
    return n < 0 ? (int)n : 0;
}

int project_cancel_jobs(struct store *s, struct db *db, const char *project_id, const char *clip_id, struct err *e)
{
    for (;;) {
        int rc = db_row(db,
                        "SELECT id, state FROM jobs WHERE project_id = ?1 AND state IN ('queued', 'running')"
                        " AND (?2 IS NULL OR (clip_id = ?2 AND kind = 'propagate')) LIMIT 1 {lock}",
                        DB_ARGS(db_t(project_id), db_t(clip_id)), e);
        if (rc != 1)
            return rc;
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "%s", db_cell(db, 0));
        bool queued = strcmp(db_cell(db, 1), "queued") == 0;
        db_done(db);
        int64_t now = clock_wall_ms();
        struct job_move m = {.id = id, .beat = -1, .now_ms = now, .n = now + s->opts.retention_ms};
        rc = job_move(db, queued ? VERB_cancel_queued : VERB_cancel, &m, NULL, e);
        if (rc < 0)
            return rc;
    }
}

static int delete_locked(struct store *s, struct db *db, const char *id, const struct actor *a, struct err *e)
{
    struct project_record p;
    int rc = project_must(db, id, &p, e);
    if (rc)
        return rc;
    rc = project_cancel_jobs(s, db, id, NULL, e);
    if (!rc)
        rc = gc_blobs(db, id, NULL, e);
    int64_t n = rc ? rc : db_run(db, "DELETE FROM project_clips WHERE project_id = ?1", DB_ARGS(db_t(id)), e);
    if (n >= 0)
        n = db_run(db, "DELETE FROM projects WHERE id = ?1", DB_ARGS(db_t(id)), e);
    rc = n < 0 ? (int)n : audit_change(db, "project.delete", &p, NULL, a, e);
    project_record_fini(&p);
    return rc;
}

int project_delete(struct store *s, const char *id, const struct actor *a, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, delete_locked(s, t.db, id, a, e), e);
}

/* ---- clips of a project ----------------------------------------------------------------------------------------- */

static int audit_clip(struct db *db, const char *project_id, const char *clip_id, bool added, const struct actor *a,
                      struct err *e)
{
    char doc[80];
    snprintf(doc, sizeof(doc), "{\"clip_id\":\"%s\"}", clip_id);
    return added ? audit_project(db, project_id, "clip.add", NULL, doc, a, e)
                 : audit_project(db, project_id, "clip.remove", doc, NULL, a, e);
}

int project_clip_insert(struct db *db, const char *project_id, const char *clip_id, const struct actor *a,
                        struct err *e)
{
    struct project_record p;
    int rc = project_must(db, project_id, &p, e);
    if (rc)
        return rc;
    project_record_fini(&p);
    rc = db_row(db, "SELECT 1 FROM clips WHERE id = ?1 {lock}", DB_ARGS(db_t(clip_id)), e);
    db_done(db);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "no clip %s", clip_id);
    int64_t n = db_run(
        db, "INSERT INTO project_clips (project_id, clip_id, added_ms) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
        DB_ARGS(db_t(project_id), db_t(clip_id), db_i(clock_wall_ms())), e);
    if (n <= 0)
        return n < 0 ? (int)n : 1;
    return audit_clip(db, project_id, clip_id, true, a, e);
}

int project_clip_add(struct store *s, const char *project_id, const char *clip_id, const struct actor *a, bool *existed,
                     struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, project_clip_insert(t.db, project_id, clip_id, a, e), e);
    if (existed)
        *existed = rc == 1;
    return rc < 0 ? rc : 0;
}

int project_clip_get(struct store *s, const char *project_id, const char *clip_id, struct clip_record *out,
                     struct err *e)
{
    *out = (struct clip_record){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_clip,
                    "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE id = ?2 AND EXISTS (SELECT 1 FROM project_clips pc"
                                               " WHERE pc.project_id = ?1 AND pc.clip_id = clips.id)",
                    DB_ARGS(db_t(project_id), db_t(clip_id)), out, e);
    if (rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "the project has no clip %s", clip_id);
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

int project_clip_list(struct store *s, const char *project_id, const char *cursor, int limit, struct clip_list *out,
                      struct err *e)
{
    void *items;
    int rc = page(s, &record_clip,
                  "SELECT " COLUMNS_OF(CLIP) " FROM clips WHERE EXISTS (SELECT 1 FROM project_clips pc WHERE"
                                             " pc.project_id = ?1 AND pc.clip_id = clips.id)"
                                             " AND (?2 IS NULL OR id > ?2) ORDER BY id LIMIT ?3",
                  project_id, cursor, limit, &items, &out->n, &out->next_cursor, e);
    out->items = items;
    if (rc)
        clip_list_fini(out);
    return rc;
}

static int clip_remove_locked(struct store *s, struct db *db, const char *project_id, const char *clip_id,
                              const struct actor *a, struct err *e)
{
    struct scene sc;
    int rc = scene_lock(db, project_id, clip_id, &sc, e);
    if (!rc)
        rc = project_cancel_jobs(s, db, project_id, clip_id, e);
    if (!rc)
        rc = gc_blobs(db, project_id, clip_id, e);
    static const char *const removals[] = {"DELETE FROM labels WHERE project_id = ?1 AND clip_id = ?2",
                                           "DELETE FROM masks WHERE project_id = ?1 AND clip_id = ?2",
                                           "DELETE FROM project_clips WHERE project_id = ?1 AND clip_id = ?2"};
    for (size_t i = 0; i < sizeof(removals) / sizeof(removals[0]) && !rc; i++) {
        int64_t n = db_run(db, removals[i], DB_ARGS(db_t(project_id), db_t(clip_id)), e);
        rc = n < 0 ? (int)n : 0;
    }
    return rc ? rc : audit_clip(db, project_id, clip_id, false, a, e);
}

int project_clip_remove(struct store *s, const char *project_id, const char *clip_id, const struct actor *a,
                        struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, clip_remove_locked(s, t.db, project_id, clip_id, a, e), e);
}

int scene_lock(struct db *db, const char *project_id, const char *clip_id, struct scene *out, struct err *e)
{
    char name[80];
    snprintf(name, sizeof(name), "%s/%s", project_id, clip_id);
    *out = (struct scene){.project_id = project_id, .clip_id = clip_id};
    int rc = db->drv->lock(db, name, true, e);
    if (rc >= 0)
        rc = db_scalar(db,
                       "SELECT frames FROM clips WHERE id = ?2 AND EXISTS (SELECT 1 FROM project_clips pc WHERE"
                       " pc.project_id = ?1 AND pc.clip_id = clips.id)",
                       DB_ARGS(db_t(project_id), db_t(clip_id)), -1, &out->frames, e);
    if (rc < 0)
        return rc;
    return out->frames >= 0 ? 0 : err_set(e, ERR_NOTFOUND, "the project has no clip %s", clip_id);
}

int scene_check_frame(const struct scene *sc, int64_t frame, struct err *e)
{
    return frame >= 0 && frame < sc->frames ? 0
                                            : err_set(e, ERR_NOTFOUND, "the clip has frames 0 to %lld, not %lld",
                                                      (long long)sc->frames - 1, (long long)frame);
}

/* ---- counts, jobs ----------------------------------------------------------------------------------------------- */

int project_count(struct store *s, const char *project_id, const char *clip_id, struct project_counts *out,
                  struct err *e)
{
    *out = (struct project_counts){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = db_row(t.db,
                "SELECT sum(CASE WHEN source = 'manual' THEN 1 ELSE 0 END),"
                " sum(CASE WHEN reviewable AND state = 'proposed' THEN 1 ELSE 0 END),"
                " sum(CASE WHEN reviewable AND state = 'accepted' THEN 1 ELSE 0 END),"
                " sum(CASE WHEN reviewable AND state = 'rejected' THEN 1 ELSE 0 END),"
                " sum(CASE WHEN reviewable AND stale > 0 THEN 1 ELSE 0 END) FROM (SELECT source, state, " LABEL_STALE
                " AS stale, (source <> 'manual' AND sha256 IS NOT NULL) AS reviewable"
                " FROM labels WHERE project_id = ?1 AND (?2 IS NULL OR clip_id = ?2)) AS l",
                DB_ARGS(db_t(project_id), db_t(clip_id)), e);
    if (rc == 1)
        *out = (struct project_counts){.keyframes = db_cell_int(t.db, 0),
                                       .proposed = db_cell_int(t.db, 1),
                                       .accepted = db_cell_int(t.db, 2),
                                       .rejected = db_cell_int(t.db, 3),
                                       .stale = db_cell_int(t.db, 4)};
    out->labels = out->proposed + out->accepted + out->rejected;
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

int project_propagation(struct store *s, const char *project_id, const char *clip_id, struct job *out, struct err *e)
{
    *out = (struct job){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = record_one(t.db, &record_job,
                    "SELECT " COLUMNS_OF(JOB) " FROM jobs WHERE project_id = ?1 AND clip_id = ?2 AND kind = 'propagate'"
                                              " AND state IN ('queued', 'running') ORDER BY id LIMIT 1",
                    DB_ARGS(db_t(project_id), db_t(clip_id)), out, e);
    return tx_end(&t, rc, e);
}
