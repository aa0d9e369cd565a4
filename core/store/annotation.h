/* annotation.h: what the files of projects, masks and labels share. Inside core/store only. */
#ifndef CORE_STORE_ANNOTATION_H
#define CORE_STORE_ANNOTATION_H

#include "core/store/job.h"
#include "core/store/project.h"

/* One clip of a project, locked against other writers for the rest of the transaction. */
struct scene {
    const char *project_id, *clip_id;
    int64_t frames;
};
/* ERR_NOTFOUND when the project does not have the clip. */
int scene_lock(struct db *db, const char *project_id, const char *clip_id, struct scene *out, struct err *e);
/* ERR_NOTFOUND when the clip has no such frame. */
int scene_check_frame(const struct scene *sc, int64_t frame, struct err *e);

/* Appends an audit row about projects/<project_id>; before and after may be NULL. */
int audit_project(struct db *db, const char *project_id, const char *action, const char *before, const char *after,
                  const struct actor *a, struct err *e);
int audit_insert(struct db *db, const char *subject, const char *action, const char *before, const char *after,
                 const struct actor *a, struct err *e);
/* The same about a mask or a label, from rows (NULL, or one without an id: there is none). */
int audit_mask(struct db *db, const char *action, const struct mask_record *before, const struct mask_record *after,
               const struct actor *a, struct err *e);
int audit_label(struct db *db, const char *action, const struct label_record *before, const struct label_record *after,
                const struct actor *a, struct err *e);

/* The newest version of a frame's mask, a deletion too: 1, 0 none. */
int mask_newest(struct db *db, const struct scene *sc, int64_t frame, struct mask_record *out, struct err *e);
/* Adds a version after `newest` (zeroed: none) and makes the frame's label manual. */
int mask_add_version(struct db *db, const struct scene *sc, const struct mask_new *n, const char *sha256,
                     const struct mask_record *newest, const struct actor *a, struct mask_record *out, struct err *e);
/* 1 and the row, 0 none. */
int label_row(struct db *db, const struct scene *sc, int64_t frame, struct label_record *out, struct err *e);
/* Writes a label row (version one more than it was) with its audit; the blobs of the row it replaces go to the sweep. */
int label_write(struct db *db, const struct scene *sc, const struct label_new *l, enum label_state state,
                const char *job_id, const char *action, const struct actor *a, struct err *e);

/* project_clip_add inside a transaction: 1 it was there. */
int project_clip_insert(struct db *db, const char *project_id, const char *clip_id, const struct actor *a,
                        struct err *e);
/* Cancels unfinished jobs of the project; with clip_id, those that propagate this clip. */
int project_cancel_jobs(struct store *s, struct db *db, const char *project_id, const char *clip_id, struct err *e);

#endif
