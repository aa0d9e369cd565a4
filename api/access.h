/* Who may do what: API keys, their scopes and tenants, and the guard against other sites' pages. */
#ifndef API_ACCESS_H
#define API_ACCESS_H

#include "api/http.h"
#include "core/store/access.h"

struct access;

/* open: requests without a key are allowed as long as no key was ever made. local: the service listens on loopback only. */
struct access *access_new(bool open, bool local); /* NULL: out of memory */
void access_free(struct access *a);
/* Reads the keys again; api_refresh calls it, so a new or revoked key counts within that time. A store that fails leaves
 * what was known. */
int access_refresh(struct access *a, struct store *s, struct err *e);

/*
 * Lets the matched request in, and sets req->tenant and req->actor; or fails with 401 (no key, or none we know), 403 (the
 * key lacks the scope, or a page of another site asks). A key comes as "Authorization: Bearer", or, for the app in a
 * browser, in the cookie that POST /v1/session sets.
 *
 * Pages of other sites: a request that may change something and whose Origin is not our own host is refused, and so is,
 * while no key is needed, a Host that is not this machine's (DNS rebinding).
 */
int access_check(struct access *a, struct http_request *req, struct http_response *resp, struct err *e);

/* For routes that look at the key themselves. presented: the secret the request carries, if any. find: what it may do;
 * ERR_NOTFOUND. refuse: the 401. */
bool access_presented(const struct http_request *req, char secret[API_KEY_SECRET_SIZE]);
int access_refuse(const struct http_request *req, struct http_response *resp, struct err *e);
int access_find(struct access *a, const char *secret, unsigned *scopes, struct err *e);
/* True when no key is needed. */
bool access_is_open(struct access *a);

#define ACCESS_COOKIE "salient_key"

#endif
