/* record: the generic reader, list builder and destructor behind the record structs; the tables come from columns.def.
 */
#include "core/store/record.h"

#include "core/store/access.h"
#include "core/store/evalset.h"
#include "core/store/project.h"

#include <stdlib.h>
#include <string.h>

#define TEXT(name) {RECORD_TEXT, offsetof(RECORD, name)},
#define INT(name) {RECORD_INT, offsetof(RECORD, name)},
#define REAL(name) {RECORD_REAL, offsetof(RECORD, name)},
#define COUNT(name, sql) INT(name)
#define TABLE(name)                                                                        \
    {                                                                                      \
        sizeof(RECORD), name##_columns, sizeof(name##_columns) / sizeof(name##_columns[0]) \
    }

#define RECORD struct job
static const struct record_column job_columns[] = {JOB_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_job = TABLE(job);
#undef RECORD

#define RECORD struct clip_record
static const struct record_column clip_columns[] = {CLIP_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_clip = TABLE(clip);
#undef RECORD

#define RECORD struct job_event
static const struct record_column event_columns[] = {EVENT_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_event = TABLE(event);
#undef RECORD

#define RECORD struct worker_record
static const struct record_column worker_columns[] = {WORKER_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_worker = TABLE(worker);
#undef RECORD

#define RECORD struct evalset
static const struct record_column evalset_columns[] = {EVALSET_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_evalset = TABLE(evalset);
#undef RECORD

#define RECORD struct project_record
static const struct record_column project_columns[] = {PROJECT_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_project = TABLE(project);
#undef RECORD

#define RECORD struct mask_record
static const struct record_column mask_columns[] = {MASK_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_mask = TABLE(mask);
#undef RECORD

#define RECORD struct label_record
static const struct record_column label_columns[] = {LABEL_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_label = TABLE(label);
#undef RECORD

#define RECORD struct audit_record
static const struct record_column audit_columns[] = {AUDIT_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_audit = TABLE(audit);
#undef RECORD

#define RECORD struct api_key
static const struct record_column api_key_columns[] = {API_KEY_COLUMNS(TEXT, INT, REAL, COUNT)};
const struct record record_api_key = TABLE(api_key);
#undef RECORD

static void *member(const struct record *r, size_t i, void *rec)
{
    return (char *)rec + r->columns[i].offset;
}

void record_fini(const struct record *r, void *rec)
{
    for (size_t i = 0; i < r->n; i++)
        if (r->columns[i].type == RECORD_TEXT)
            free(*(char **)member(r, i, rec));
    memset(rec, 0, r->size);
}

int record_read(struct db *db, const struct record *r, void *out, struct err *e)
{
    memset(out, 0, r->size);
    for (size_t i = 0; i < r->n; i++) {
        void *m = member(r, i, out);
        int c = (int)i;
        switch (r->columns[i].type) {
        case RECORD_INT:
            *(int64_t *)m = db_cell_int(db, c);
            break;
        case RECORD_REAL:
            *(double *)m = db_cell_real(db, c);
            break;
        case RECORD_TEXT: {
            const char *s = db_cell(db, c);
            *(char **)m = s ? strdup(s) : NULL;
            if (s && !*(char **)m) {
                record_fini(r, out);
                return err_set(e, ERR_NOMEM, "out of memory for a record");
            }
            break;
        }
        }
    }
    return 0;
}

void record_list_free(const struct record *r, void *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        record_fini(r, (char *)items + i * r->size);
    free(items);
}

/* Appends the current row to the array. */
static int list_push(struct db *db, const struct record *r, char **items, size_t *count, size_t *cap, struct err *e)
{
    if (*count == *cap) {
        size_t grown = *cap ? 2 * *cap : 16;
        char *p = realloc(*items, grown * r->size);
        if (!p)
            return err_set(e, ERR_NOMEM, "out of memory for a list");
        *items = p;
        *cap = grown;
    }
    int rc = record_read(db, r, *items + *count * r->size, e);
    *count += rc == 0;
    return rc;
}

int record_list(struct db *db, const struct record *r, const char *sql, const struct db_arg *args, size_t n,
                void **items, size_t *count, struct err *e)
{
    char *list = NULL;
    size_t got = 0, cap = 0;
    int rc = db_query(db, sql, args, n, e);
    while (rc == 0) {
        int more = db_step(db, e);
        if (more <= 0) {
            rc = more;
            break;
        }
        rc = list_push(db, r, &list, &got, &cap, e);
    }
    db_done(db);
    if (rc) {
        record_list_free(r, list, got);
        list = NULL;
        got = 0;
    }
    *items = list;
    *count = got;
    return rc;
}

int record_one(struct db *db, const struct record *r, const char *sql, const struct db_arg *args, size_t n, void *out,
               struct err *e)
{
    memset(out, 0, r->size);
    int rc = db_row(db, sql, args, n, e);
    if (rc != 1)
        return rc;
    rc = record_read(db, r, out, e);
    db_done(db);
    return rc ? rc : 1;
}

/* ---- the public destructors ------------------------------------------------------------------------------------- */

void job_fini(struct job *j)
{
    if (j)
        record_fini(&record_job, j);
}

void clip_record_fini(struct clip_record *c)
{
    if (c)
        record_fini(&record_clip, c);
}

void job_list_fini(struct job_list *l)
{
    record_list_free(&record_job, l->items, l->n);
    free(l->next_cursor);
    *l = (struct job_list){0};
}

void clip_list_fini(struct clip_list *l)
{
    record_list_free(&record_clip, l->items, l->n);
    free(l->next_cursor);
    *l = (struct clip_list){0};
}

void event_list_fini(struct event_list *l)
{
    record_list_free(&record_event, l->items, l->n);
    *l = (struct event_list){0};
}

void worker_list_fini(struct worker_list *l)
{
    record_list_free(&record_worker, l->items, l->n);
    *l = (struct worker_list){0};
}
