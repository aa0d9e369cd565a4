/*
 * registry_alias: aliases, their history, and the end of a training.
 *
 * The moves of an alias form a stack: "set" pushes a version, "rollback" pops one. The stack is not stored but replayed
 * from the history, whose generations order it.
 */
#include "core/store/registry_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

/* ---- moving ----------------------------------------------------------------------------------------------------- */

static int get_alias(struct db *db, const char *model, const char *alias, struct registry_alias *out, struct err *e)
{
    return record_one(db, &record_alias,
                      "SELECT " COLUMNS_OF(ALIAS) " FROM model_aliases WHERE model_id = ?1 AND alias = ?2 {lock}",
                      DB_ARGS(db_t(model), db_t(alias)), out, e);
}

static int write_history(struct db *db, const struct registry_move *m, const char *action, const char *from,
                         int64_t generation, struct err *e)
{
    char id[ID_SIZE];
    id_new(id);
    int64_t n =
        db_run(db,
               "INSERT INTO alias_history (model_id, alias, generation, from_version, to_version, moved, reason,"
               " actor, id, at_ms, action) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
               DB_ARGS(db_t(m->model), db_t(m->alias), db_i(generation), db_t(from), db_t(m->version),
                       db_i(strcmp(action, "keep") != 0), db_t(m->reason), db_t(m->actor ? m->actor : ""), db_t(id),
                       db_i(clock_wall_ms()), db_t(action)),
               e);
    return n < 0 ? (int)n : 0;
}

/* The alias is where the move expects it. `at` NULL: there is none yet. */
static int check_place(const struct registry_move *m, const struct registry_alias *at, struct err *e)
{
    int64_t generation = at ? at->generation : -1;
    if (m->generation && m->generation != generation)
        return at ? err_set(e, ERR_CONFLICT, "alias '%s' is at generation %lld, version %s", m->alias,
                            (long long)generation, at->version)
                  : err_set(e, ERR_CONFLICT, "alias '%s' is new", m->alias);
    if (m->expect && (!at || strcmp(at->version, m->expect) != 0))
        return err_set(e, ERR_CONFLICT, "alias '%s' is at version %s, not %s", m->alias, at ? at->version : "none",
                       m->expect);
    return 0;
}

static int write_alias(struct db *db, const struct registry_move *m, int64_t generation, struct err *e)
{
    int64_t n =
        db_run(db,
               "INSERT INTO model_aliases (model_id, alias, version, generation, updated_ms) VALUES"
               " (?1, ?2, ?3, ?4, ?5) ON CONFLICT (model_id, alias) DO UPDATE SET version = excluded.version,"
               " generation = excluded.generation, updated_ms = excluded.updated_ms",
               DB_ARGS(db_t(m->model), db_t(m->alias), db_t(m->version), db_i(generation), db_i(clock_wall_ms())), e);
    return n < 0 ? (int)n : 0;
}

int alias_move(struct db *db, const struct registry_move *m, const char *action, struct registry_alias *out,
               struct err *e)
{
    struct registry_alias at, now = {0};
    int rc = get_alias(db, m->model, m->alias, &at, e);
    bool there = rc == 1;
    if (rc < 0)
        return rc;
    rc = check_place(m, there ? &at : NULL, e);
    if (!rc && !(there && strcmp(at.version, m->version) == 0)) {
        int64_t generation = there ? at.generation + 1 : 1;
        rc = write_alias(db, m, generation, e);
        if (!rc)
            rc = write_history(db, m, action, there ? at.version : NULL, generation, e);
    }
    registry_alias_fini(&at);
    if (!rc && out) {
        rc = get_alias(db, m->model, m->alias, &now, e);
        rc = rc == 1 ? 0 : rc < 0 ? rc : err_set(e, ERR_INTERNAL, "alias '%s' was not written", m->alias);
        *out = now;
    }
    return rc;
}

static int set_locked(struct db *db, const struct registry_move *m, struct registry_alias *out, struct err *e)
{
    struct registry_version v;
    int rc = model_lock(db, m->model, e);
    if (!rc)
        rc = version_get(db, m->model, m->version, &v, e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "model '%.80s' has no version '%.80s'", m->model, m->version);
    registry_version_fini(&v);
    return alias_move(db, m, "set", out, e);
}

int registry_set(struct store *s, const struct registry_move *m, struct registry_alias *out, struct err *e)
{
    if (out)
        memset(out, 0, sizeof(*out));
    if (!registry_name_valid(m->alias))
        return err_set(e, ERR_INVALID, "an alias has 1 to %d letters, digits, '.', '_' or '-'", REGISTRY_NAME_MAX);
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, set_locked(t.db, m, out, e), e);
}

/* ---- the stack -------------------------------------------------------------------------------------------------- */

#define MOVES_SQL                                                                                            \
    "SELECT " COLUMNS_OF(ALIAS_EVENT) " FROM alias_history WHERE model_id = ?1 AND alias = ?2 AND moved = 1" \
                                      " ORDER BY generation"

/* Replays the moves: stack[0..*n) are borrowed from the events, the alias' present version last. */
static const char **replay(const struct registry_events *moves, size_t *n)
{
    const char **stack = calloc(moves->n + 1, sizeof(*stack));
    *n = 0;
    for (size_t i = 0; stack && i < moves->n; i++) {
        if (strcmp(moves->items[i].action, "rollback") == 0 && *n > 1)
            (*n)--;
        else
            stack[(*n)++] = moves->items[i].to_version;
    }
    return stack;
}

static int list_moves(struct db *db, const char *model, const char *alias, struct registry_events *out, struct err *e)
{
    void *items;
    int rc = record_list(db, &record_alias_event, MOVES_SQL, DB_ARGS(db_t(model), db_t(alias)), &items, &out->n, e);
    out->items = items;
    return rc;
}

static int rollback_locked(struct db *db, const struct registry_move *m, struct registry_alias *out, struct err *e)
{
    struct registry_events moves = {0};
    const char **stack = NULL;
    size_t n = 0;
    struct registry_move back = *m;
    int rc = model_lock(db, m->model, e);
    if (!rc)
        rc = list_moves(db, m->model, m->alias, &moves, e);
    if (!rc && !(stack = replay(&moves, &n)))
        rc = err_set(e, ERR_NOMEM, "out of memory for a rollback");
    if (!rc && n < 2)
        rc = err_set(e, ERR_CONFLICT, "alias '%s' of model '%.80s' has no earlier version", m->alias, m->model);
    if (!rc) {
        back.version = stack[n - 2];
        rc = alias_move(db, &back, "rollback", out, e);
    }
    free((void *)stack);
    registry_events_fini(&moves);
    return rc;
}

int registry_rollback(struct store *s, const struct registry_move *m, struct registry_alias *out, struct err *e)
{
    if (out)
        memset(out, 0, sizeof(*out));
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    return rc ? rc : tx_end(&t, rollback_locked(t.db, m, out, e), e);
}

static int stack_holds(struct db *db, const char *model, const char *alias, const char *version, struct err *e)
{
    struct registry_events moves = {0};
    size_t n = 0;
    int rc = list_moves(db, model, alias, &moves, e);
    const char **stack = rc ? NULL : replay(&moves, &n);
    if (!rc && !stack)
        rc = err_set(e, ERR_NOMEM, "out of memory for a history");
    for (size_t i = 0; !rc && i < n; i++)
        rc = strcmp(stack[i], version) == 0;
    free((void *)stack);
    registry_events_fini(&moves);
    return rc;
}

static int list_aliases(struct db *db, const char *model, struct registry_aliases *out, struct err *e)
{
    void *items;
    int rc = record_list(db, &record_alias,
                         "SELECT " COLUMNS_OF(ALIAS) " FROM model_aliases WHERE model_id = ?1 ORDER BY alias",
                         DB_ARGS(db_t(model)), &items, &out->n, e);
    out->items = items;
    return rc;
}

int alias_may_return(struct db *db, const char *model, const char *version, struct err *e)
{
    struct registry_aliases l = {0};
    int rc = list_aliases(db, model, &l, e);
    for (size_t i = 0; !rc && i < l.n; i++) {
        if (strcmp(l.items[i].version, version) == 0)
            rc = 1;
        else if (strcmp(l.items[i].alias, REGISTRY_CHALLENGER) != 0) /* nobody rolls a challenger back */
            rc = stack_holds(db, model, l.items[i].alias, version, e);
    }
    registry_aliases_fini(&l);
    return rc;
}

/* ---- lists ------------------------------------------------------------------------------------------------------ */

int registry_aliases(struct store *s, const char *model, struct registry_aliases *out, struct err *e)
{
    *out = (struct registry_aliases){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, list_aliases(t.db, model, out, e), e);
}

int registry_history(struct store *s, const char *model, int limit, struct registry_events *out, struct err *e)
{
    *out = (struct registry_events){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_alias_event,
                     "SELECT " COLUMNS_OF(ALIAS_EVENT) " FROM alias_history WHERE model_id = ?1"
                                                       " ORDER BY at_ms DESC, generation DESC, id DESC LIMIT ?2",
                     DB_ARGS(db_t(model), db_i(limit)), &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}

/* ---- the end of a training -------------------------------------------------------------------------------------- */

/* Moves the champion to the new version, or writes down why not. */
static int decide(struct db *db, const struct registry_new *n, const struct registry_verdict *v, const char *version,
                  const char *actor, struct err *e)
{
    struct registry_move m = {.model = n->model,
                              .alias = REGISTRY_CHAMPION,
                              .version = version,
                              .reason = v->reason,
                              .actor = actor,
                              .expect = n->parent_version};
    struct registry_alias at;
    struct err moved_on = {0};
    if (v->promote) {
        int rc = alias_move(db, &m, "set", NULL, &moved_on);
        if (rc != ERR_CONFLICT)
            return rc ? err_set(e, rc, "%s", moved_on.msg) : 0;
        m.reason = "the champion is not the one it was compared with any more";
    }
    int rc = get_alias(db, m.model, m.alias, &at, e);
    if (rc < 0)
        return rc;
    rc = write_history(db, &m, "keep", at.version, at.generation, e);
    registry_alias_fini(&at);
    return rc;
}

static int conclude_locked(struct db *db, struct blobs *b, const struct job_lease *l, const struct registry_new *n,
                           const struct registry_verdict *v, const char *sha256, struct registry_version *out,
                           struct err *e)
{
    char key[REGISTRY_KEY_SIZE], actor[ID_SIZE + 8];
    struct registry_move challenge = {.model = n->model, .alias = REGISTRY_CHALLENGER, .actor = actor};
    snprintf(actor, sizeof(actor), "job %s", l->id);
    int rc = lease_check(db, l, e);
    if (!rc)
        rc = version_of_job(db, l->id, out, e);
    if (rc)
        return rc < 0 ? rc : 0; /* an earlier attempt came this far */
    registry_key(sha256, key);
    rc = blob_confirm(db, b, key, e);
    if (!rc)
        rc = version_insert(db, n, sha256, key, out, e);
    if (rc < 0)
        return rc;
    challenge.version = out->version;
    challenge.reason = "trained";
    rc = alias_move(db, &challenge, "set", NULL, e);
    return rc ? rc : decide(db, n, v, out->version, actor, e);
}

/* Whether the job's version became champion. */
static int was_promoted(struct db *db, const char *model, const char *job_id, bool *promoted, struct err *e)
{
    char actor[ID_SIZE + 8];
    snprintf(actor, sizeof(actor), "job %s", job_id);
    int rc = db_row(db,
                    "SELECT 1 FROM alias_history WHERE model_id = ?1 AND alias = 'champion' AND actor = ?2 AND"
                    " moved = 1 LIMIT 1",
                    DB_ARGS(db_t(model), db_t(actor)), e);
    db_done(db);
    *promoted = rc == 1;
    return rc < 0 ? rc : 0;
}

int registry_was_promoted(struct store *s, const struct registry_version *v, bool *promoted, struct err *e)
{
    struct tx t;
    *promoted = false;
    int rc = tx_begin(s, false, &t, e);
    return rc ? rc : tx_end(&t, was_promoted(t.db, v->model_id, v->job_id ? v->job_id : "", promoted, e), e);
}

int registry_conclude(struct store *s, struct blobs *b, const struct job_lease *l, const char *path,
                      const struct registry_new *n, const struct registry_verdict *v, struct registry_version *out,
                      bool *promoted, struct err *e)
{
    memset(out, 0, sizeof(*out));
    char sha256[SHA256_HEX_SIZE];
    struct tx t;
    int rc = version_store(s, b, path, false, n, sha256, e);
    if (!rc)
        rc = tx_begin(s, true, &t, e);
    if (!rc) {
        rc = conclude_locked(t.db, b, l, n, v, sha256, out, e);
        if (!rc)
            rc = was_promoted(t.db, n->model, l->id, promoted, e);
        rc = tx_end(&t, rc, e);
    }
    if (rc)
        registry_version_fini(out);
    return rc;
}
