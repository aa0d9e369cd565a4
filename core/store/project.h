/*
 * project.h: annotation projects: their clips, the keyframe masks people paint, the labels made from them, and who
 * changed what.
 *
 * Masks are versioned: a put adds a version and removes none; the newest version of a frame is its keyframe unless it
 * is a deletion. Every keyframe has a row in `labels` too (source manual, state accepted), so the labels of a clip are
 * all that is known about its frames; a frame without a row is uncovered.
 *
 * A pseudo-label names the keyframes it came from and their versions. When one of them changes, or a new keyframe
 * stands between them, the label reads stale; the next propagation replaces it. labels_replace_span() says what a
 * propagation may not touch.
 *
 * Mask bytes are blobs masks/<sha256>, stored before the row that names them (mask_store), so a crash leaves at most
 * an orphan for the sweep. Every change appends a row of `audit` in its own transaction.
 *
 * Errors beyond those of store.h are named at the calls. Strings in arguments are borrowed.
 */
#ifndef CORE_STORE_PROJECT_H
#define CORE_STORE_PROJECT_H

#include "core/store/store.h"

struct project_record {
    PROJECT_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct mask_record {
    MASK_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct label_record {
    LABEL_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};
struct audit_record {
    AUDIT_COLUMNS(STORE_TEXT, STORE_INT, STORE_REAL, STORE_COUNT)
};

/* Who makes a change, for the audit; members may be NULL. */
struct actor {
    const char *who, *request_id;
};

/* ---- projects --------------------------------------------------------------------------------------------------- */

void project_record_fini(struct project_record *p);
struct project_list {
    struct project_record *items;
    size_t n;
    char *next_cursor;
};
void project_list_fini(struct project_list *l);

/* settings: {"labels_per_interval": n, "retrain": {"mode": "manual"|"auto", "min_new_labels": n, "holdout": x}}; what
 * they may be is the API's business. */
int project_create(struct store *s, const char *tenant, const char *name, const char *settings, const struct actor *a,
                   struct project_record *out, struct err *e);
int project_get(struct store *s, const char *id, struct project_record *out, struct err *e); /* ERR_NOTFOUND */
/* Newest first; tenant NULL: all. Cursor and limit as of job_list. */
int project_list(struct store *s, const char *tenant, const char *cursor, int limit, struct project_list *out,
                 struct err *e);
/* Sets name and settings when the project still has `version` (0: whatever it has). ERR_NOTFOUND; ERR_CONFLICT: somebody
 * changed it since (*out is the project as it is). */
int project_update(struct store *s, const char *id, int64_t version, const char *name, const char *settings,
                   const struct actor *a, struct project_record *out, struct err *e);
/* Removes the project with its masks and labels, cancels its jobs, lets its clips go. ERR_NOTFOUND. Its audit stays. */
int project_delete(struct store *s, const char *id, const struct actor *a, struct err *e);

/* ERR_NOTFOUND: no such project or clip. Adding it again changes nothing (*existed = true; may be NULL). A clip of a
 * project does not expire. */
int project_clip_add(struct store *s, const char *project_id, const char *clip_id, const struct actor *a, bool *existed,
                     struct err *e);
/* The clip of a project. ERR_NOTFOUND. */
int project_clip_get(struct store *s, const char *project_id, const char *clip_id, struct clip_record *out,
                     struct err *e);
/* In the order of clip ids (oldest first). */
int project_clip_list(struct store *s, const char *project_id, const char *cursor, int limit, struct clip_list *out,
                      struct err *e);
/* Takes the clip out of the project, with its masks and labels; cancels its propagation. ERR_NOTFOUND. */
int project_clip_remove(struct store *s, const char *project_id, const char *clip_id, const struct actor *a,
                        struct err *e);

struct project_counts {
    int64_t keyframes;
    int64_t labels; /* pseudo-labels with a mask: proposed + accepted + rejected */
    int64_t proposed, accepted, rejected;
    int64_t stale; /* of them */
};
/* clip_id NULL: of all clips of the project. */
int project_count(struct store *s, const char *project_id, const char *clip_id, struct project_counts *out,
                  struct err *e);

/* The unfinished propagate job of a clip that stands first: 1 and *out, 0 none. */
int project_propagation(struct store *s, const char *project_id, const char *clip_id, struct job *out, struct err *e);

/* ---- mask blobs ------------------------------------------------------------------------------------------------- */

#define MASK_KEY_SIZE (6 + SHA256_HEX_SIZE)
void mask_key(const char *sha256, char out[MASK_KEY_SIZE]); /* "masks/<sha256>" */
/* Stores the PNG of a mask, label or uncertainty map as masks/<sha256>. The row that names it must follow within the
 * sweep's grace time (an hour). */
int mask_store(struct store *s, struct blobs *b, const void *png, size_t len, char sha256[SHA256_HEX_SIZE],
               struct err *e);

/* ---- keyframes -------------------------------------------------------------------------------------------------- */

void mask_record_fini(struct mask_record *m);
struct mask_list {
    struct mask_record *items;
    size_t n;
};
void mask_list_fini(struct mask_list *l);

#define MASK_ANY_VERSION (-1)
struct mask_new {
    const char *project_id, *clip_id;
    int64_t frame;
    const void *png; /* the caller has checked that it is a mask of the frame's size */
    size_t len;
    int64_t objects;
    /* The version that this one replaces; 0: the frame must have no keyframe; MASK_ANY_VERSION. */
    int64_t expected;
    const char *origin; /* NULL: "manual", or "correction" where a pseudo-label was */
};
/* Adds a version; the frame's label becomes manual. The very bytes that are there already add none (*out is what is
 * there), whatever was expected: a client that lost the answer may ask again.
 * ERR_NOTFOUND: no such clip in the project, or no such frame. ERR_CONFLICT: the keyframe is not the expected one; *out
 * is the one that is (zeroed: there is none). */
int mask_put(struct store *s, struct blobs *b, const struct mask_new *n, const struct actor *a, struct mask_record *out,
             struct err *e);
/* The keyframe (version 0), or an older version of it, also when it has been deleted since. ERR_NOTFOUND. */
int mask_get(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t version,
             struct mask_record *out, struct err *e);
/* The keyframes of a clip, in the order of frames. */
int mask_list(struct store *s, const char *project_id, const char *clip_id, struct mask_list *out, struct err *e);
/* All versions of a frame's mask, deletions too, oldest first. */
int mask_versions(struct store *s, const char *project_id, const char *clip_id, int64_t frame, struct mask_list *out,
                  struct err *e);
/* The frame is uncovered then; pseudo-labels that came from it are proposed again, and stale. ERR_NOTFOUND,
 * ERR_CONFLICT as mask_put. */
int mask_delete(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t expected,
                const struct actor *a, struct err *e);

/* ---- labels ----------------------------------------------------------------------------------------------------- */

enum label_source {
    LABEL_MANUAL,   /* a keyframe: a person painted it */
    LABEL_PSEUDO,   /* propagated */
    LABEL_REJECTED, /* propagated and found unusable by the propagation itself */
    LABEL_UNCOVERED /* nothing reaches it */
};
enum label_state { LABEL_STATE_PROPOSED, LABEL_STATE_ACCEPTED, LABEL_STATE_REJECTED };
const char *label_source_name(enum label_source s);
const char *label_state_name(enum label_state s);
int label_source_parse(const char *name); /* enum label_source or ERR_INVALID */
int label_state_parse(const char *name);  /* enum label_state or ERR_INVALID */

void label_record_fini(struct label_record *l);
struct label_list {
    struct label_record *items;
    size_t n;
};
void label_list_fini(struct label_list *l);

struct label_filter {
    const char *clip_id; /* NULL: all clips */
    unsigned sources;    /* bits 1 << LABEL_x; 0: all */
    unsigned states;     /* bits 1 << LABEL_STATE_x; 0: all */
    bool masks_only;     /* those that have a mask */
};
/* In the order of clips and frames. filter may be NULL. */
int label_list(struct store *s, const char *project_id, const struct label_filter *f, struct label_list *out,
               struct err *e);
int label_get(struct store *s, const char *project_id, const char *clip_id, int64_t frame, struct label_record *out,
              struct err *e); /* ERR_NOTFOUND */

struct label_new { /* what a propagation says of a frame */
    int64_t frame;
    enum label_source source; /* not LABEL_MANUAL */
    double confidence;
    int64_t left, right;                 /* keyframes; -1: none on this side */
    int64_t left_version, right_version; /* as mask_list gave them */
    const char *sha256;                  /* from mask_store; NULL: no mask */
    const char *uncertainty_sha256;      /* from mask_store, or NULL */
    const char *model, *model_sha256, *flow;
};
/* Writes labels of one clip, all or none, while `l` is held: ERR_LEASE_LOST, ERR_CANCELED as job_heartbeat. A frame is
 * left as it is when it is a keyframe; when its label is accepted and the keyframes that one came from are as they
 * were; when it is rejected and no keyframe of its span changed or was added. The others become proposed.
 * ERR_NOTFOUND: the clip is no longer in the project. *written counts rows (may be NULL). */
int labels_replace_span(struct store *s, const struct job_lease *l, const char *project_id, const char *clip_id,
                        const struct label_new *labels, size_t n, int64_t *written, struct err *e);

/* Accepts or rejects a pseudo-label, or proposes it again, when it still has `version` (0: any). ERR_NOTFOUND: no label.
 * ERR_CONFLICT: a keyframe or an uncovered frame has nothing to review; ERR_BUSY: the label has another version (*out is the label
 * as it is). */
int label_set_state(struct store *s, const char *project_id, const char *clip_id, int64_t frame, int64_t version,
                    enum label_state state, const struct actor *a, struct label_record *out, struct err *e);
/* Accepts all proposed pseudo-labels of the frames from..to (inclusive) with at least this confidence that are not
 * stale. *n counts them. */
int labels_accept(struct store *s, const char *project_id, const char *clip_id, double min_confidence, int64_t from,
                  int64_t to, const struct actor *a, int64_t *n, struct err *e);

/* ---- import ----------------------------------------------------------------------------------------------------- */

struct import_item { /* a mask that was made elsewhere */
    const char *clip_id;
    struct label_new label; /* source LABEL_MANUAL: a keyframe. left_version and right_version are filled in */
    enum label_state state; /* of a pseudo-label */
    int64_t objects;        /* of a keyframe's mask */
};
/* Adds clips and masks (blobs stored before) to a project, all or nothing. What is there already in the same form stays as it is.
 * ERR_NOTFOUND; ERR_CONFLICT: a frame has another keyframe or another accepted label already (the message names it). */
int project_import(struct store *s, const char *project_id, const char *const *clip_ids, size_t nclips,
                   const struct import_item *items, size_t n, const struct actor *a, struct err *e);

/* ---- audit ------------------------------------------------------------------------------------------------------ */

struct audit_list {
    struct audit_record *items;
    size_t n;
    char *next_cursor;
};
void audit_list_fini(struct audit_list *l);
/* A change outside of this file ("models/NAME", "alias.move", ...); before and after are JSON objects or NULL. */
int audit_add(struct store *s, const char *subject, const char *action, const char *before, const char *after,
              const struct actor *a, struct err *e);
/* Newest first. Cursor and limit as of job_list. */
int audit_list(struct store *s, const char *subject, const char *cursor, int limit, struct audit_list *out,
               struct err *e);

#endif
