/*
 * label: what is known about a clip's frames: painted, propagated, reviewed. One row a frame; the audit has its past.
 *
 * Writers of one clip exclude each other (scene_lock), so the rules of who may replace what are plain code between a
 * read and a write.
 */
#include "core/store/annotation.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"

#define LABEL_SQL "SELECT " COLUMNS_OF(LABEL) " FROM labels"

static const char *const sources[] = {"manual", "pseudo", "rejected", "uncovered"};
static const char *const states[] = {"proposed", "accepted", "rejected"};
enum { SOURCES = sizeof(sources) / sizeof(sources[0]), STATES = sizeof(states) / sizeof(states[0]) };

static int parse(const char *name, const char *const *names, int n)
{
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0)
            return i;
    return ERR_INVALID;
}

const char *label_source_name(enum label_source s)
{
    return sources[s];
}

const char *label_state_name(enum label_state s)
{
    return states[s];
}

int label_source_parse(const char *name)
{
    return parse(name, sources, SOURCES);
}

int label_state_parse(const char *name)
{
    return parse(name, states, STATES);
}

void label_record_fini(struct label_record *l)
{
    if (l)
        record_fini(&record_label, l);
}

void label_list_fini(struct label_list *l)
{
    record_list_free(&record_label, l->items, l->n);
    *l = (struct label_list){0};
}

/* ---- rows ------------------------------------------------------------------------------------------------------- */

int label_row(struct db *db, const struct scene *sc, int64_t frame, struct label_record *out, struct err *e)
{
    return record_one(db, &record_label, LABEL_SQL " WHERE project_id = ?1 AND clip_id = ?2 AND frame = ?3",
                      DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(frame)), out, e);
}

static void audit_doc(const struct label_record *l, struct buf *b)
{
    buf_printf(b,
               "{\"clip_id\":\"%s\",\"frame\":%lld,\"version\":%lld,\"source\":\"%s\",\"state\":\"%s\","
               "\"confidence\":%.4f,\"left\":%lld,\"right\":%lld,\"sha256\":",
               l->clip_id, (long long)l->frame, (long long)l->version, l->source, l->state, l->confidence,
               (long long)l->left_frame, (long long)l->right_frame);
    if (l->sha256)
        buf_printf(b, "\"%s\"}", l->sha256);
    else
        buf_puts(b, "null}");
}

int audit_label(struct db *db, const char *action, const struct label_record *before, const struct label_record *after,
                const struct actor *a, struct err *e)
{
    struct buf was = BUF_INIT, is = BUF_INIT;
    if (before && before->source)
        audit_doc(before, &was);
    audit_doc(after, &is);
    int rc = was.failed || is.failed ? err_set(e, ERR_NOMEM, "out of memory for the audit")
                                     : audit_project(db, after->project_id, action, was.data, is.data, a, e);
    buf_free(&was);
    buf_free(&is);
    return rc;
}

/* Hands a blob that a row no longer names to the sweep, which asks whether another does. */
static int let_go(struct db *db, const char *was, const char *is, struct err *e)
{
    if (!was || (is && strcmp(was, is) == 0))
        return 0;
    char key[MASK_KEY_SIZE];
    mask_key(was, key);
    return gc_add(db, key, clock_wall_ms(), e);
}

/* To what both databases give back exactly as it was stored. */
static double round_confidence(double c)
{
    return round(c * 1e6) / 1e6;
}

static int upsert(struct db *db, const struct scene *sc, const struct label_new *l, enum label_state state,
                  const char *job_id, struct err *e)
{
    int64_t n = db_run(
        db,
        "INSERT INTO labels (project_id, clip_id, frame, source, state, confidence, left_frame, right_frame,"
        " left_version, right_version, model, model_sha256, flow, sha256, uncertainty_sha256, job_id,"
        " updated_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
        " ON CONFLICT (project_id, clip_id, frame) DO UPDATE SET source = ?4, state = ?5, confidence = ?6,"
        " left_frame = ?7, right_frame = ?8, left_version = ?9, right_version = ?10, model = ?11,"
        " model_sha256 = ?12, flow = ?13, sha256 = ?14, uncertainty_sha256 = ?15, job_id = ?16,"
        " updated_ms = ?17, version = labels.version + 1",
        DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(l->frame), db_t(sources[l->source]), db_t(states[state]),
                db_r(round_confidence(l->confidence)), db_i(l->left), db_i(l->right), db_i(l->left_version),
                db_i(l->right_version), db_t(l->model), db_t(l->model_sha256), db_t(l->flow), db_t(l->sha256),
                db_t(l->uncertainty_sha256), db_t(job_id), db_i(clock_wall_ms())),
        e);
    return n < 0 ? (int)n : 0;
}

/* As label_write, over a row that was read (zeroed: none). */
static int write_over(struct db *db, const struct scene *sc, const struct label_record *before,
                      const struct label_new *l, enum label_state state, const char *job_id, const char *action,
                      const struct actor *a, struct err *e)
{
    struct label_record after = {0};
    int rc = upsert(db, sc, l, state, job_id, e);
    if (!rc)
        rc = let_go(db, before->sha256, l->sha256, e);
    if (!rc)
        rc = let_go(db, before->uncertainty_sha256, l->uncertainty_sha256, e);
    if (!rc)
        rc = label_row(db, sc, l->frame, &after, e);
    if (rc == 1)
        rc = audit_label(db, action, before, &after, a, e);
    label_record_fini(&after);
    return rc;
}

int label_write(struct db *db, const struct scene *sc, const struct label_new *l, enum label_state state,
                const char *job_id, const char *action, const struct actor *a, struct err *e)
{
    struct label_record before;
    int rc = label_row(db, sc, l->frame, &before, e);
    if (rc < 0)
        return rc;
    rc = write_over(db, sc, &before, l, state, job_id, action, a, e);
    label_record_fini(&before);
    return rc;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* ",a,b," of the names whose bits are set (all for 0), for LIKE. */
static void name_set(unsigned wanted, const char *const *names, unsigned n, struct buf *out)
{
    buf_putc(out, ',');
    for (unsigned i = 0; i < n; i++)
        if (!wanted || (wanted >> i & 1))
            buf_printf(out, "%s,", names[i]);
}

int label_list(struct store *s, const char *project_id, const struct label_filter *f, struct label_list *out,
               struct err *e)
{
    static const struct label_filter all;
    f = f ? f : &all;
    *out = (struct label_list){0};
    void *items = NULL;
    struct buf so = BUF_INIT, st = BUF_INIT;
    struct tx t = {0};
    name_set(f->sources, sources, SOURCES, &so);
    name_set(f->states, states, STATES, &st);
    int rc = so.failed || st.failed ? err_set(e, ERR_NOMEM, "out of memory for a list") : tx_begin(s, false, &t, e);
    if (!rc) {
        rc = record_list(t.db, &record_label,
                         LABEL_SQL " WHERE project_id = ?1 AND (?2 IS NULL OR clip_id = ?2) AND"
                                   " ?3 LIKE '%,' || source || ',%' AND ?4 LIKE '%,' || state || ',%' AND"
                                   " (?5 = 0 OR sha256 IS NOT NULL) ORDER BY clip_id, frame",
                         DB_ARGS(db_t(project_id), db_t(f->clip_id), db_t(so.data), db_t(st.data), db_i(f->masks_only)),
                         &items, &out->n, e);
        out->items = items;
        rc = tx_end(&t, rc, e);
    }
    buf_free(&so);
    buf_free(&st);
    return rc;
}

int label_get(struct store *s, const char *project_id, const char *clip_id, int64_t frame, struct label_record *out,
              struct err *e)
{
    *out = (struct label_record){0};
    struct scene sc = {.project_id = project_id, .clip_id = clip_id};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    rc = label_row(t.db, &sc, frame, out, e);
    if (rc == 0)
        rc = err_set(e, ERR_NOTFOUND, "frame %lld has no label", (long long)frame);
    rc = tx_end(&t, rc, e);
    return rc < 0 ? rc : 0;
}

/* ---- propagation ------------------------------------------------------------------------------------------------ */

static bool is(const char *text, const char *name)
{
    return text && strcmp(text, name) == 0;
}

static bool same_text(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* What labels_replace_span leaves as it is (see project.h), and what would not change. */
static bool keeps(const struct label_record *was, const struct label_new *l)
{
    if (!was->source)
        return false;
    if (is(was->source, sources[LABEL_MANUAL]))
        return true;
    if (is(was->state, states[LABEL_STATE_ACCEPTED]) && was->stale < 2)
        return true;
    if (is(was->state, states[LABEL_STATE_REJECTED]) && was->stale == 0)
        return true;
    return is(was->state, states[LABEL_STATE_PROPOSED]) && is(was->source, sources[l->source]) &&
           was->confidence == round_confidence(l->confidence) && was->left_frame == l->left &&
           was->right_frame == l->right && was->left_version == l->left_version &&
           was->right_version == l->right_version && same_text(was->sha256, l->sha256) &&
           same_text(was->uncertainty_sha256, l->uncertainty_sha256) && same_text(was->model, l->model) &&
           same_text(was->model_sha256, l->model_sha256) && same_text(was->flow, l->flow);
}

/* 1 written, 0 kept. */
static int replace_one(struct db *db, const struct scene *sc, const struct label_new *l, const char *job_id,
                       const struct actor *a, struct err *e)
{
    struct label_record before;
    BUG_ON(l->source == LABEL_MANUAL);
    int rc = scene_check_frame(sc, l->frame, e);
    if (!rc)
        rc = label_row(db, sc, l->frame, &before, e);
    if (rc < 0)
        return rc;
    bool kept = keeps(&before, l);
    rc = kept ? 0 : write_over(db, sc, &before, l, LABEL_STATE_PROPOSED, job_id, "label.propagate", a, e);
    label_record_fini(&before);
    return rc < 0 ? rc : !kept;
}

static int replace_locked(struct db *db, const struct job_lease *lease, const char *project_id, const char *clip_id,
                          const struct label_new *labels, size_t n, int64_t *written, struct err *e)
{
    char who[ID_SIZE + 8] = "job:";
    strcat(who, lease->id);
    const struct actor a = {.who = who};
    struct scene sc;
    int rc = lease_check(db, lease, e);
    if (!rc)
        rc = scene_lock(db, project_id, clip_id, &sc, e);
    for (size_t i = 0; i < n && rc >= 0; i++) {
        rc = replace_one(db, &sc, &labels[i], lease->id, &a, e);
        *written += rc == 1;
    }
    return rc < 0 ? rc : 0;
}

int labels_replace_span(struct store *s, const struct job_lease *l, const char *project_id, const char *clip_id,
                        const struct label_new *labels, size_t n, int64_t *written, struct err *e)
{
    int64_t count = 0;
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, replace_locked(t.db, l, project_id, clip_id, labels, n, &count, e), e);
    if (written)
        *written = rc ? 0 : count;
    return rc;
}

/* ---- review ----------------------------------------------------------------------------------------------------- */

static int review(struct db *db, const struct scene *sc, const struct label_record *before, enum label_state state,
                  const struct actor *a, struct label_record *out, struct err *e)
{
    static const char *const actions[] = {"label.propose", "label.accept", "label.reject"};
    int64_t n = db_run(db,
                       "UPDATE labels SET state = ?4, version = version + 1, updated_ms = ?5"
                       " WHERE project_id = ?1 AND clip_id = ?2 AND frame = ?3",
                       DB_ARGS(db_t(sc->project_id), db_t(sc->clip_id), db_i(before->frame), db_t(states[state]),
                               db_i(clock_wall_ms())),
                       e);
    int rc = n < 0 ? (int)n : label_row(db, sc, before->frame, out, e);
    return rc == 1 ? audit_label(db, actions[state], before, out, a, e) : rc;
}

/* 1: it is so already; 2: the label has another version; then *out is the label. */
static int set_state_locked(struct db *db, const char *project_id, const char *clip_id, int64_t frame, int64_t version,
                            enum label_state state, const struct actor *a, struct label_record *out, struct err *e)
{
    struct scene sc;
    struct label_record before = {0};
    int rc = scene_lock(db, project_id, clip_id, &sc, e);
    if (!rc)
        rc = label_row(db, &sc, frame, &before, e);
    if (rc != 1)
        return rc < 0 ? rc : err_set(e, ERR_NOTFOUND, "frame %lld has no label", (long long)frame);
    bool stays = is(before.state, states[state]), other = version > 0 && before.version != version;
    if (is(before.source, sources[LABEL_MANUAL]) || !before.sha256)
        rc = err_set(e, ERR_CONFLICT, "frame %lld is %s: there is nothing to review", (long long)frame,
                     before.sha256 ? "a keyframe" : "uncovered");
    else if (stays || other)
        rc = stays ? 1 : 2;
    else
        rc = review(db, &sc, &before, state, a, out, e);
    if (rc > 0)
        *out = before;
    else
        label_record_fini(&before);
    return rc;
}

int label_set_state(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t version,
                    enum label_state state, const struct actor *a, struct label_record *out, struct err *e)
{
    *out = (struct label_record){0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, set_state_locked(t.db, project_id, clip_id, frame, version, state, a, out, e), e);
    if (rc < 0)
        label_record_fini(out);
    return rc == 2  ? err_set(e, ERR_BUSY, "the label was changed since: it has version %lld", (long long)out->version)
           : rc < 0 ? rc
                    : 0;
}

static int accept_locked(struct db *db, const char *project_id, const char *clip_id, double min_confidence,
                         int64_t from, int64_t to, const struct actor *a, int64_t *count, struct err *e)
{
    struct scene sc;
    void *items = NULL;
    size_t n = 0;
    int rc = scene_lock(db, project_id, clip_id, &sc, e);
    if (!rc)
        rc = record_list(db, &record_label,
                         LABEL_SQL " WHERE project_id = ?1 AND clip_id = ?2 AND source = 'pseudo' AND"
                                   " state = 'proposed' AND sha256 IS NOT NULL AND confidence >= ?3 AND"
                                   " frame >= ?4 AND frame <= ?5 ORDER BY frame",
                         DB_ARGS(db_t(project_id), db_t(clip_id), db_r(min_confidence), db_i(from), db_i(to)), &items,
                         &n, e);
    const struct label_record *l = items;
    for (size_t i = 0; i < n && !rc; i++) {
        struct label_record after = {0};
        if (l[i].stale)
            continue;
        rc = review(db, &sc, &l[i], LABEL_STATE_ACCEPTED, a, &after, e);
        label_record_fini(&after);
        *count += !rc;
    }
    record_list_free(&record_label, items, n);
    return rc;
}

int labels_accept(struct store *s, const char *project_id, const char *clip_id, double min_confidence, int64_t from,
                  int64_t to, const struct actor *a, int64_t *n, struct err *e)
{
    *n = 0;
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (!rc)
        rc = tx_end(&t, accept_locked(t.db, project_id, clip_id, min_confidence, from, to, a, n, e), e);
    return rc;
}

/* ---- import ----------------------------------------------------------------------------------------------------- */

/* The version of a keyframe that an imported label names; 0: there is none. */
static int key_version(struct db *db, const struct scene *sc, int64_t frame, int64_t *version, struct err *e)
{
    struct mask_record m = {0};
    int rc = frame < 0 ? 0 : mask_newest(db, sc, frame, &m, e);
    *version = rc == 1 && !m.deleted ? m.version : 0;
    mask_record_fini(&m);
    return rc < 0 ? rc : 0;
}

static int import_keyframe(struct db *db, const struct scene *sc, const struct import_item *it, const struct actor *a,
                           struct err *e)
{
    struct mask_record newest = {0}, after = {0};
    struct mask_new n = {.project_id = sc->project_id,
                         .clip_id = sc->clip_id,
                         .frame = it->label.frame,
                         .objects = it->objects,
                         .origin = "import"};
    int rc = mask_newest(db, sc, it->label.frame, &newest, e);
    bool there = rc == 1 && !newest.deleted;
    if (there && strcmp(newest.sha256, it->label.sha256) != 0)
        rc = err_set(e, ERR_CONFLICT, "frame %lld of clip %s has another keyframe already", (long long)n.frame,
                     sc->clip_id);
    else if (rc >= 0 && !there)
        rc = mask_add_version(db, sc, &n, it->label.sha256, &newest, a, &after, e);
    mask_record_fini(&newest);
    mask_record_fini(&after);
    return rc < 0 ? rc : 0;
}

static int import_label(struct db *db, const struct scene *sc, const struct import_item *it, const struct actor *a,
                        struct err *e)
{
    struct label_record before = {0};
    struct label_new l = it->label;
    int rc = label_row(db, sc, l.frame, &before, e);
    bool same = rc == 1 && same_text(before.sha256, l.sha256);
    bool reviewed =
        rc == 1 && (is(before.source, sources[LABEL_MANUAL]) || is(before.state, states[LABEL_STATE_ACCEPTED]));
    if (rc >= 0)
        rc = key_version(db, sc, l.left, &l.left_version, e);
    if (rc >= 0)
        rc = key_version(db, sc, l.right, &l.right_version, e);
    l.left = l.left_version ? l.left : -1;
    l.right = l.right_version ? l.right : -1;
    if (rc >= 0 && reviewed && !same)
        rc = err_set(e, ERR_CONFLICT, "frame %lld of clip %s has another reviewed mask already", (long long)l.frame,
                     sc->clip_id);
    else if (rc >= 0 && !reviewed)
        rc = write_over(db, sc, &before, &l, it->state, NULL, "label.import", a, e);
    label_record_fini(&before);
    return rc < 0 ? rc : 0;
}

/* Keyframes first: labels name them. */
static int import_items(struct db *db, const char *project_id, const struct import_item *items, size_t n,
                        bool keyframes, const struct actor *a, struct err *e)
{
    struct scene sc = {0};
    int rc = 0;
    for (size_t i = 0; i < n && !rc; i++) {
        if ((items[i].label.source == LABEL_MANUAL) != keyframes)
            continue;
        if (!sc.clip_id || strcmp(sc.clip_id, items[i].clip_id) != 0)
            rc = scene_lock(db, project_id, items[i].clip_id, &sc, e);
        if (!rc)
            rc = scene_check_frame(&sc, items[i].label.frame, e);
        if (!rc)
            rc = keyframes ? import_keyframe(db, &sc, &items[i], a, e) : import_label(db, &sc, &items[i], a, e);
    }
    return rc;
}

int project_import(struct store *s, const char *project_id, const char *const *clip_ids, size_t nclips,
                   const struct import_item *items, size_t n, const struct actor *a, struct err *e)
{
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    for (size_t i = 0; i < nclips && rc >= 0; i++)
        rc = project_clip_insert(t.db, project_id, clip_ids[i], a, e);
    rc = rc < 0 ? rc : import_items(t.db, project_id, items, n, true, a, e);
    if (!rc)
        rc = import_items(t.db, project_id, items, n, false, a, e);
    return tx_end(&t, rc, e);
}
