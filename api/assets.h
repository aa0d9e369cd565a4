/* Files embedded in the binary at build time: everything below web/ and openapi.json. */
#ifndef API_ASSETS_H
#define API_ASSETS_H

#include <stddef.h>

struct asset {
    const char *path; /* "index.html", "js/app.js", "openapi.json" */
    const unsigned char *data, *end;
};

/* The generated table; ends with path == NULL. */
extern const struct asset assets_table[];

const struct asset *asset_find(const char *path); /* NULL when there is none */
const char *asset_etag(const struct asset *a);    /* quoted, of the content; computed once */
const char *asset_type(const char *path);         /* Content-Type by extension */

#endif
