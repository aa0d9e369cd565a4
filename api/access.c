/*
 * Access: the keys are few and read by every request, so they are kept in memory, in an array that a refresh replaces
 * under a lock. Event loop threads call access_check: nothing here waits for the database.
 */
#include "api/access.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "api/context.h"
#include "api/problem.h"
#include "api/route.h"
#include "core/base/clock.h"
#include "core/base/hash.h"

struct access {
    bool open, local;
    pthread_rwlock_t lock;
    struct api_key_list keys;
};

struct access *access_new(bool open, bool local)
{
    struct access *a = calloc(1, sizeof(*a));
    if (!a)
        return NULL;
    a->open = open;
    a->local = local;
    pthread_rwlock_init(&a->lock, NULL);
    return a;
}

void access_free(struct access *a)
{
    if (!a)
        return;
    api_key_list_fini(&a->keys);
    pthread_rwlock_destroy(&a->lock);
    free(a);
}

int access_refresh(struct access *a, struct store *s, struct err *e)
{
    struct api_key_list fresh;
    int rc = api_key_list(s, &fresh, e);
    if (rc < 0)
        return rc;
    pthread_rwlock_wrlock(&a->lock);
    struct api_key_list old = a->keys;
    a->keys = fresh;
    pthread_rwlock_unlock(&a->lock);
    api_key_list_fini(&old);
    return 0;
}

bool access_is_open(struct access *a)
{
    pthread_rwlock_rdlock(&a->lock);
    bool none = a->keys.n == 0;
    pthread_rwlock_unlock(&a->lock);
    return none && a->open;
}

/* The key that matches, under the lock; all are compared, so the time tells nothing about which. */
static const struct api_key *match(const struct access *a, const char *secret)
{
    char sha256[SHA256_HEX_SIZE];
    const struct api_key *found = NULL;
    int64_t now = clock_wall_ms();
    sha256_hex(secret, strlen(secret), sha256);
    for (size_t i = 0; i < a->keys.n; i++)
        if (api_key_matches(&a->keys.items[i], sha256, now))
            found = &a->keys.items[i];
    return found;
}

/* Fills the request's identity (when there is a request) from the key. */
static int identify(struct access *a, const char *secret, struct http_request *req, unsigned *scopes, struct err *e)
{
    pthread_rwlock_rdlock(&a->lock);
    const struct api_key *k = match(a, secret);
    int rc = k ? access_scopes_parse(k->scopes, scopes, e) : err_set(e, ERR_NOTFOUND, "the API key is not known");
    if (rc == 0 && req) {
        req->tenant = strdup(k->tenant ? k->tenant : "");
        req->actor = strdup(k->id);
        rc = req->tenant && req->actor ? 0 : err_set(e, ERR_NOMEM, "no memory for the request's key");
    }
    pthread_rwlock_unlock(&a->lock);
    return rc;
}

int access_find(struct access *a, const char *secret, unsigned *scopes, struct err *e)
{
    return identify(a, secret, NULL, scopes, e);
}

/* ---- what the request says ----------------------------------------------------------------------------------------- */

/* Copies the secret of "Bearer SECRET"; false: another scheme, or too long to be ours. */
static bool bearer(const char *text, char out[API_KEY_SECRET_SIZE])
{
    if (strncasecmp(text, "Bearer ", 7) != 0)
        return false;
    text += 7 + strspn(text + 7, " ");
    size_t len = strcspn(text, " \t");
    if (len >= API_KEY_SECRET_SIZE)
        return false;
    memcpy(out, text, len);
    out[len] = '\0';
    return true;
}

static bool cookie(const char *text, char out[API_KEY_SECRET_SIZE])
{
    const size_t name = strlen(ACCESS_COOKIE "=");
    while (*text) {
        text += strspn(text, " ;");
        size_t len = strcspn(text, ";");
        if (len > name && len - name < API_KEY_SECRET_SIZE && memcmp(text, ACCESS_COOKIE "=", name) == 0) {
            memcpy(out, text + name, len - name);
            out[len - name] = '\0';
            return true;
        }
        text += len;
    }
    return false;
}

bool access_presented(const struct http_request *req, char out[API_KEY_SECRET_SIZE])
{
    const char *auth = http_header(req, "Authorization"), *cookies = http_header(req, "Cookie");
    return auth ? bearer(auth, out) : cookies && cookie(cookies, out);
}

/* "HOST[:PORT]" or "[V6]:PORT" means this machine. */
static bool host_is_loopback(const char *host)
{
    size_t len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
    return (len == 9 && strncasecmp(host, "localhost", 9) == 0) || (len == 5 && memcmp(host, "[::1]", 5) == 0) ||
           (len > 4 && memcmp(host, "127.", 4) == 0 && strspn(host, "0123456789.") == len);
}

static bool changes_something(const struct http_request *req)
{
    return req->method != HTTP_GET && req->method != HTTP_HEAD && req->method != HTTP_OPTIONS;
}

/* A browser says where a page comes from; other clients say nothing and are no risk to anybody's session. */
static bool from_another_site(const struct http_request *req)
{
    const char *origin = http_header(req, "Origin"), *host = http_header(req, "Host"),
               *site = http_header(req, "Sec-Fetch-Site");
    if (site && strcmp(site, "cross-site") == 0)
        return true;
    if (!origin)
        return false;
    const char *at = strstr(origin, "://");
    return !at || !host || strcasecmp(at + 3, host) != 0;
}

static int check_site(const struct access *a, struct http_request *req, struct http_response *resp, bool open,
                      struct err *e)
{
    const char *host = http_header(req, "Host");
    if (changes_something(req) && from_another_site(req))
        return problem_set(resp, e, 403, "cross_site", "a page of another site may not do this");
    if (open && a->local && host && !host_is_loopback(host))
        return problem_set(resp, e, 403, "unknown_host",
                           "without API keys this service answers only under a name of its own machine, not '%.80s'",
                           host);
    return 0;
}

int access_refuse(const struct http_request *req, struct http_response *resp, struct err *e)
{
    bool given = http_header(req, "Authorization") || http_header(req, "Cookie");
    http_set_header(resp, "WWW-Authenticate", "%s", given ? "Bearer error=\"invalid_token\"" : "Bearer");
    return problem_set(resp, e, 401, "unauthorized", "%s",
                       given ? "the API key is unknown, expired or revoked"
                             : "this needs an API key: Authorization: Bearer KEY");
}

int access_check(struct access *a, struct http_request *req, struct http_response *resp, struct err *e)
{
    enum access_scope need = req->route->scope;
    char secret[API_KEY_SECRET_SIZE];
    unsigned scopes = 0;
    bool open = access_is_open(a);
    int rc = need == SCOPE_OPEN && !changes_something(req) ? 0 : check_site(a, req, resp, open, e);
    if (rc < 0 || need == SCOPE_OPEN || open)
        return rc;
    if (!access_presented(req, secret))
        return access_refuse(req, resp, e);
    rc = identify(a, secret, req, &scopes, e);
    if (rc == ERR_NOTFOUND)
        return access_refuse(req, resp, e);
    if (rc == 0 && !(scopes & 1u << need))
        rc = problem_set(resp, e, 403, "insufficient_scope", "the API key lacks the scope '%s'",
                         access_scope_name(need));
    return rc;
}
