/* record.h: rows to structs, from columns.def. Inside core/store only. */
#ifndef CORE_STORE_RECORD_H
#define CORE_STORE_RECORD_H

#include "core/store/db.h"

/* "SELECT " COLUMNS_OF(JOB) " FROM ..."; the closing 1 takes the last comma. */
#define COLUMN_NAME(name) #name ", "
#define COLUMN_SQL(name, sql) sql ", "
#define COLUMNS_OF(R) R##_COLUMNS(COLUMN_NAME, COLUMN_NAME, COLUMN_NAME, COLUMN_SQL) "1"

enum record_type { RECORD_TEXT, RECORD_INT, RECORD_REAL };

struct record_column {
    enum record_type type;
    size_t offset;
};

struct record { /* one kind of record */
    size_t size;
    const struct record_column *columns;
    size_t n;
};

extern const struct record record_job, record_clip, record_event, record_worker, record_evalset, record_api_key;
extern const struct record record_project, record_mask, record_label, record_audit;

/* Reads the current row, whose first cells are the record's columns in order, into *out (uninitialised before). */
int record_read(struct db *db, const struct record *r, void *out, struct err *e);
/* Frees the strings and zeroes the record. */
void record_fini(const struct record *r, void *rec);
/* Runs a query and reads all rows into a malloc'd array. */
int record_list(struct db *db, const struct record *r, const char *sql, const struct db_arg *args, size_t n,
                void **items, size_t *count, struct err *e);
void record_list_free(const struct record *r, void *items, size_t count);
/* Reads the only row: 1 read, 0 no row, < 0. */
int record_one(struct db *db, const struct record *r, const char *sql, const struct db_arg *args, size_t n, void *out,
               struct err *e);

#endif
