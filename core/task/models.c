/* models: see models.h. The cache holds at most CACHE_MAX versions; the ones used longest ago go first. */
#include "core/task/models.h"

#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_MAX 12
#define KEEP_ROOM_BYTES ((int64_t)1 << 30)

/* ---- built-in versions ------------------------------------------------------------------------------------------ */

static int register_one(void *arg, const char *path, const struct model_info *info, struct err *e)
{
    (void)path;
    const struct registry_new n = {.model = info->name,
                                   .arch = info->arch->name,
                                   .version = info->version,
                                   .origin = "builtin",
                                   .info = info->json};
    return registry_add_builtin(arg, &n, info->sha256, e);
}

int models_register(struct store *s, const char *dir, struct err *e)
{
    return model_each(dir, register_one, s, e);
}

struct keeper {
    struct store *store;
    struct blobs *blobs;
};

static int keep_one(void *arg, const char *path, const struct model_info *info, struct err *e)
{
    const struct keeper *k = arg;
    char file[FS_PATH_MAX];
    json_t *doc = json_loads(info->json, 0, NULL);
    const char *weights = json_string_value(json_object_get(doc, "weights"));
    int rc = fs_join(file, path, weights ? weights : MODEL_FILE, e);
    json_decref(doc);
    return rc ? rc : registry_keep_builtin(k->store, k->blobs, file, info->sha256, e);
}

int models_keep(struct store *s, struct blobs *b, const char *dir, struct err *e)
{
    struct keeper k = {s, b};
    int64_t room = blobs_free_bytes(b);
    if (room >= 0 && room < KEEP_ROOM_BYTES)
        return err_set(e, ERR_FULL, "less than %lld bytes are left", (long long)KEEP_ROOM_BYTES);
    return model_each(dir, keep_one, &k, e);
}

int models_resolve(struct store *s, const char *dir, const char *ref, struct registry_version *out, struct err *e)
{
    struct err why = {0};
    int rc = registry_resolve(s, ref, out, e);
    if (rc != ERR_NOTFOUND || models_register(s, dir, &why))
        return rc;
    return registry_resolve(s, ref, out, e);
}

/* ---- the models folder ------------------------------------------------------------------------------------------ */

struct wanted {
    const struct registry_version *v;
    char *path;
};

static int match_one(void *arg, const char *path, const struct model_info *info, struct err *e)
{
    (void)e;
    const struct wanted *w = arg;
    if (strcmp(info->name, w->v->model_id) != 0 || strcmp(info->sha256, w->v->sha256) != 0)
        return 0;
    snprintf(w->path, FS_PATH_MAX, "%s", path);
    return 1;
}

/* ---- the cache -------------------------------------------------------------------------------------------------- */

/* model.json of a copy: as it was registered, under the name and version it has here. */
static int write_info(const char *dir, const struct registry_version *v, struct err *e)
{
    char path[FS_PATH_MAX];
    json_t *doc = json_loads(v->info ? v->info : "", 0, NULL);
    int rc = fs_join(path, dir, MODEL_JSON, e);
    if (!rc && !json_is_object(doc))
        rc = err_set(e, ERR_CORRUPT, "what is known about version %s of %s is not JSON", v->version, v->model_id);
    if (!rc) {
        json_object_set_new(doc, "name", json_string(v->model_id));
        json_object_set_new(doc, "version", json_string(v->version));
        json_object_set_new(doc, "weights", json_string(MODEL_FILE));
        json_object_set_new(doc, "sha256", json_string(v->sha256));
        char *text = json_dumps(doc, JSON_INDENT(2));
        rc = text ? fs_write_atomic(path, text, strlen(text), e) : err_set(e, ERR_NOMEM, "%s", path);
        free(text);
    }
    json_decref(doc);
    return rc;
}

/* Oldest use first: the folder's time is set at each use. */
struct entry {
    char path[FS_PATH_MAX];
    int64_t used_s;
};

static void prune(const char *dir)
{
    struct fs_list l = {0};
    if (fs_list(dir, &l, NULL))
        return;
    for (size_t left = l.n; left > CACHE_MAX; left--) {
        struct entry oldest = {.used_s = INT64_MAX};
        for (size_t i = 0; i < l.n; i++) {
            char path[FS_PATH_MAX];
            struct stat st;
            if (fs_join(path, dir, l.names[i], NULL) == 0 && stat(path, &st) == 0 && st.st_mtime < oldest.used_s) {
                oldest.used_s = st.st_mtime;
                snprintf(oldest.path, sizeof(oldest.path), "%s", path);
            }
        }
        if (oldest.path[0])
            fs_remove_tree(oldest.path, NULL);
    }
    fs_list_free(&l);
}

static int fill(const struct models_cache *c, const struct registry_version *v, const char *tmp, struct err *e)
{
    char file[FS_PATH_MAX], got[SHA256_HEX_SIZE];
    int rc = fs_mkdirs(tmp, e);
    if (!rc)
        rc = fs_join(file, tmp, MODEL_FILE, e);
    if (!rc)
        rc = blob_get_file(c->blobs, v->blob_key, file, e);
    if (!rc)
        rc = sha256_file_hex(file, got, e);
    if (!rc && strcmp(got, v->sha256) != 0)
        rc = err_set(e, ERR_CORRUPT, "blob %s has sha256 %s", v->blob_key, got);
    return rc ? rc : write_info(tmp, v, e);
}

static int fetch(const struct models_cache *c, const struct registry_version *v, const char *path, struct err *e)
{
    char tmp[FS_PATH_MAX], name[ID_SIZE + 8], id[ID_SIZE];
    id_new(id);
    snprintf(name, sizeof(name), "part-%s", id);
    if (!v->blob_key)
        return err_set(e, ERR_NOTFOUND, "version %s of model %s came with another installation and has no blob",
                       v->version, v->model_id);
    int rc = fs_mkdirs(c->dir, e);
    if (!rc)
        rc = fs_join(tmp, c->dir, name, e);
    if (rc)
        return rc;
    prune(c->dir);
    rc = fill(c, v, tmp, e);
    if (!rc && rename(tmp, path) != 0 && !fs_is_dir(path)) /* another process may have been faster */
        rc = err_errno(e, "%s", path);
    fs_remove_tree(tmp, NULL);
    return rc ? err_wrap(e, "fetching model %s@%s", v->model_id, v->version) : 0;
}

int models_fetch(const struct models_cache *c, const struct registry_version *v, char out[FS_PATH_MAX], struct err *e)
{
    char json[FS_PATH_MAX];
    struct wanted w = {v, out};
    int rc = model_each(c->models_dir, match_one, &w, e);
    if (rc)
        return rc == 1 ? 0 : rc;
    rc = fs_join(out, c->dir, v->sha256, e);
    if (!rc)
        rc = fs_join(json, out, MODEL_JSON, e);
    if (rc)
        return rc;
    if (!fs_exists(json))
        return fetch(c, v, out, e);
    utimensat(AT_FDCWD, out, NULL, 0);
    return 0;
}

int models_open(const struct models_cache *c, const struct registry_version *v, struct tensor_device dev,
                struct model **out, struct err *e)
{
    char path[FS_PATH_MAX];
    *out = NULL;
    int rc = models_fetch(c, v, path, e);
    if (!rc)
        rc = model_open(path, dev, out, e);
    size_t n = strlen(c->dir);
    bool copy = strncmp(path, c->dir, n) == 0 && path[n] == '/';
    if ((rc == ERR_CORRUPT || rc == ERR_NOTFOUND) && copy && v->blob_key) {
        fs_remove_tree(path, NULL);
        rc = models_fetch(c, v, path, e);
        if (!rc)
            rc = model_open(path, dev, out, e);
    }
    if (!rc && strcmp(model_info(*out)->sha256, v->sha256) != 0) {
        model_close(*out);
        *out = NULL;
        rc = err_set(e, ERR_CORRUPT, "%s does not hold version %s of %s", path, v->version, v->model_id);
    }
    return rc;
}
