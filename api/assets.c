/* Embedded files. Their ETags are hashes, computed on first use under one lock. */
#include "api/assets.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "core/base/err.h"
#include "core/base/hash.h"

#define ASSETS_MAX 256

static char etags[ASSETS_MAX][32];
static pthread_once_t etags_once = PTHREAD_ONCE_INIT;

static void make_etags(void)
{
    for (size_t i = 0; assets_table[i].path; i++) {
        char hex[SHA256_HEX_SIZE];
        BUG_ON(i == ASSETS_MAX);
        sha256_hex(assets_table[i].data, (size_t)(assets_table[i].end - assets_table[i].data), hex);
        snprintf(etags[i], sizeof(etags[i]), "\"%.24s\"", hex);
    }
}

const struct asset *asset_find(const char *path)
{
    for (const struct asset *a = assets_table; a->path; a++)
        if (strcmp(a->path, path) == 0)
            return a;
    return NULL;
}

const char *asset_etag(const struct asset *a)
{
    pthread_once(&etags_once, make_etags);
    return etags[a - assets_table];
}

const char *asset_type(const char *path)
{
    static const struct {
        const char *ext, *type;
    } types[] = {
        {".html", "text/html; charset=utf-8"},
        {".css", "text/css; charset=utf-8"},
        {".js", "text/javascript; charset=utf-8"},
        {".mjs", "text/javascript; charset=utf-8"},
        {".json", "application/json"},
        {".svg", "image/svg+xml"},
        {".png", "image/png"},
        {".ico", "image/x-icon"},
        {".webmanifest", "application/manifest+json"},
        {".woff2", "font/woff2"},
        {".txt", "text/plain; charset=utf-8"},
        {".jpg", "image/jpeg"},
        {".mp4", "video/mp4"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcmp(dot, types[i].ext) == 0)
            return types[i].type;
    return "application/octet-stream";
}
