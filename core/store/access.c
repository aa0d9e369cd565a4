/* access: API keys. One table, read as a whole: a service has few keys, and api/ keeps them in memory. */
#include "core/store/access.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/store/record.h"

#define FIND "SELECT " COLUMNS_OF(API_KEY) " FROM api_keys WHERE id = ?1"

static const char *const scope_names[SCOPE_COUNT] = {
#define SCOPE(symbol, name, help) name,
#include "core/store/access_scope.def"
#undef SCOPE
};

const char *access_scope_name(enum access_scope s)
{
    return scope_names[s];
}

int access_scopes_parse(const char *text, unsigned *out, struct err *e)
{
    *out = 0;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        int s = SCOPE_READ;
        while (s < SCOPE_COUNT && (strlen(scope_names[s]) != len || memcmp(scope_names[s], at, len) != 0))
            s++;
        if (s == SCOPE_COUNT)
            return err_set(e, ERR_INVALID, "'%.*s' is not a scope: read, submit, annotate or admin",
                           (int)(len < 40 ? len : 40), at);
        *out |= s == SCOPE_ADMIN ? ~0u : 1u << s;
        at += len + (at[len] == ',');
    }
    return *out ? 0 : err_set(e, ERR_INVALID, "a key needs a scope: read, submit, annotate or admin");
}

void api_key_fini(struct api_key *k)
{
    record_fini(&record_api_key, k);
}

void api_key_list_fini(struct api_key_list *l)
{
    record_list_free(&record_api_key, l->items, l->n);
    *l = (struct api_key_list){0};
}

static void make_secret(char secret[API_KEY_SECRET_SIZE], char sha256[SHA256_HEX_SIZE])
{
    unsigned char r[32];
    random_bytes(r, sizeof(r));
    int n = snprintf(secret, API_KEY_SECRET_SIZE, API_KEY_PREFIX);
    for (size_t i = 0; i < sizeof(r); i++)
        snprintf(secret + n + 2 * i, 3, "%02x", r[i]);
    sha256_hex(secret, strlen(secret), sha256);
}

static int find(struct db *db, const char *id, const char *sql, struct api_key *out, struct err *e)
{
    int rc = record_one(db, &record_api_key, sql, DB_ARGS(db_t(id)), out, e);
    return rc == 0 ? err_set(e, ERR_NOTFOUND, "no API key %.40s", id) : rc < 0 ? rc : 0;
}

/* Ends the transaction; a record that was read is not handed out when it fails. */
static int finish(struct tx *t, int rc, struct api_key *out, struct err *e)
{
    rc = tx_end(t, rc, e);
    if (rc < 0)
        api_key_fini(out);
    return rc;
}

int api_key_add(struct store *s, const struct api_key *k, char secret[API_KEY_SECRET_SIZE], struct api_key *out,
                struct err *e)
{
    *out = (struct api_key){0};
    unsigned scopes;
    int rc = access_scopes_parse(k->scopes, &scopes, e);
    if (rc)
        return rc;
    char id[ID_SIZE], sha256[SHA256_HEX_SIZE];
    id_new(id);
    make_secret(secret, sha256);
    struct tx t;
    rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    int64_t n = db_run(t.db,
                       "INSERT INTO api_keys (id, name, tenant, scopes, key_sha256, created_ms, expires_ms)"
                       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                       DB_ARGS(db_t(id), db_t(k->name), db_t(k->tenant ? k->tenant : ""), db_t(k->scopes), db_t(sha256),
                               db_i(clock_wall_ms()), db_i(k->expires_ms)),
                       e);
    return finish(&t, n < 0 ? (int)n : find(t.db, id, FIND, out, e), out, e);
}

int api_key_list(struct store *s, struct api_key_list *out, struct err *e)
{
    *out = (struct api_key_list){0};
    struct tx t;
    int rc = tx_begin(s, false, &t, e);
    if (rc)
        return rc;
    void *items;
    rc = record_list(t.db, &record_api_key, "SELECT " COLUMNS_OF(API_KEY) " FROM api_keys ORDER BY id", DB_NO_ARGS,
                     &items, &out->n, e);
    out->items = items;
    return tx_end(&t, rc, e);
}

/* The key's row, locked; a revoked one is refused. */
static int find_live(struct db *db, const char *id, struct api_key *out, struct err *e)
{
    int rc = find(db, id, FIND " {lock}", out, e);
    if (rc == 0 && out->revoked_ms) {
        api_key_fini(out);
        rc = err_set(e, ERR_CONFLICT, "the API key %s is revoked", id);
    }
    return rc;
}

int api_key_revoke(struct store *s, const char *id, struct err *e)
{
    struct api_key k = {0};
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    rc = find_live(t.db, id, &k, e);
    if (rc == 0) {
        int64_t n = db_run(t.db, "UPDATE api_keys SET revoked_ms = ?2 WHERE id = ?1",
                           DB_ARGS(db_t(id), db_i(clock_wall_ms())), e);
        rc = n < 0 ? (int)n : 0;
    }
    api_key_fini(&k);
    return tx_end(&t, rc, e);
}

int api_key_rotate(struct store *s, const char *id, int64_t grace_ms, char secret[API_KEY_SECRET_SIZE],
                   struct api_key *out, struct err *e)
{
    *out = (struct api_key){0};
    char sha256[SHA256_HEX_SIZE];
    make_secret(secret, sha256);
    struct tx t;
    int rc = tx_begin(s, true, &t, e);
    if (rc)
        return rc;
    rc = find_live(t.db, id, out, e);
    if (rc == 0) {
        api_key_fini(out);
        int64_t n = db_run(t.db,
                           "UPDATE api_keys SET previous_sha256 = key_sha256, previous_until_ms = ?2, key_sha256 = ?3"
                           " WHERE id = ?1",
                           DB_ARGS(db_t(id), db_i(clock_wall_ms() + grace_ms), db_t(sha256)), e);
        rc = n < 0 ? (int)n : find(t.db, id, FIND, out, e);
    }
    return finish(&t, rc, out, e);
}

static bool same(const char *a, const char *b)
{
    unsigned char differ = 0;
    for (size_t i = 0; i < SHA256_HEX_SIZE - 1; i++)
        differ |= (unsigned char)(a[i] ^ b[i]);
    return differ == 0;
}

bool api_key_matches(const struct api_key *k, const char sha256[SHA256_HEX_SIZE], int64_t now_ms)
{
    static const char none[SHA256_HEX_SIZE] = "";
    bool now = same(k->key_sha256, sha256);
    bool before = same(k->previous_sha256 ? k->previous_sha256 : none, sha256) && now_ms < k->previous_until_ms;
    return (now || before) && !k->revoked_ms && (k->expires_ms == 0 || now_ms < k->expires_ms);
}
