/* HTTP over libmicrohttpd: listening, event loops, a pool for handlers that block. Requests go to api/. */
#ifndef SERVER_HTTPD_H
#define SERVER_HTTPD_H

#include "api/api.h"
#include "core/base/err.h"

struct httpd;

struct httpd_opts {
    const char *listen; /* "127.0.0.1:8080", "[::1]:0", "0.0.0.0:80"; port 0 picks one */
    int loops;          /* event loop threads; at least 2 */
    int handlers;       /* threads for handlers that block */
    int max_connections;
    int idle_timeout_s; /* a connection that neither sends nor takes anything is closed */
    struct api *api;
};

int httpd_start(const struct httpd_opts *opts, struct httpd **out, struct err *e);
const char *httpd_url(const struct httpd *h); /* "http://127.0.0.1:41234" */
int httpd_connections(const struct httpd *h);
int httpd_active(const struct httpd *h); /* requests between their first byte and the end of their answer */
/* Ends every connection; streams and waiting handlers must have been told to finish. NULL is fine. */
void httpd_stop(struct httpd *h);

#endif
