/*
 * model: finding, opening, checking and writing models.
 *
 * Nothing of a model file is trusted: the JSON is typed field by field, the weights' name may not leave the folder, the
 * hash is compared before the tensors are read, and every tensor is checked by name and shape against the architecture.
 */
#include "core/net/model.h"

#include <errno.h>
#include <jansson.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/log.h"

#define JSON_MAX_BYTES (1U << 20)

struct loaded {
    struct scope *scope;
    struct weights *weights;
};

struct model {
    struct model_info info;
    struct tensor_device dev;
    char path[FS_PATH_MAX]; /* of the weights file */
    char *json;
    struct loaded plain, folded;
};

/* ---- finding ----------------------------------------------------------------------------------------------------- */

static int default_dirs(char dirs[3][FS_PATH_MAX])
{
    const char *env = getenv("SALIENT_MODELS");
    if (env && *env) {
        snprintf(dirs[0], FS_PATH_MAX, "%s", env);
        return 1;
    }
    int n = 0;
    char exe[FS_PATH_MAX];
    ssize_t len = readlink("/proc/self/exe", exe, sizeof(exe) - 32);
    for (int up = 0; len > 0 && up < 3; up++) { /* build/release/salient, build/salient, bin/salient */
        exe[len] = 0;
        char *slash = strrchr(exe, '/');
        if (!slash)
            break;
        len = slash - exe;
        snprintf(slash, 16, "/models");
        if (fs_is_dir(exe) && n < 2)
            snprintf(dirs[n++], FS_PATH_MAX, "%s", exe);
    }
    snprintf(dirs[n++], FS_PATH_MAX, "/usr/local/share/salient/models");
    return n;
}

static int newest_version(const char *model_dir, char *version, size_t size, struct err *e)
{
    struct fs_list l;
    int rc = fs_list(model_dir, &l, e);
    if (rc)
        return rc;
    version[0] = 0;
    for (size_t i = 0; i < l.n; i++) {
        char path[FS_PATH_MAX], json[FS_PATH_MAX];
        if (l.names[i][0] == '.' || strlen(l.names[i]) >= size || fs_join(path, model_dir, l.names[i], NULL) ||
            fs_join(json, path, MODEL_JSON, NULL) || !fs_exists(json))
            continue;
        if (!version[0] || fs_natural_cmp(l.names[i], version) > 0)
            snprintf(version, size, "%s", l.names[i]);
    }
    fs_list_free(&l);
    return version[0] ? 0 : err_set(e, ERR_NOTFOUND, "%s has no version with a %s", model_dir, MODEL_JSON);
}

/* 0 and `out`, or ERR_NOTFOUND. */
static int find_below(const char *dir, const char *name, const char *version, char *out, struct err *e)
{
    char model_dir[FS_PATH_MAX], newest[64];
    int rc = fs_join(model_dir, dir, name, e);
    if (rc)
        return rc;
    if (!fs_is_dir(model_dir))
        return err_set(e, ERR_NOTFOUND, "%s does not exist", model_dir);
    if (!version) {
        rc = newest_version(model_dir, newest, sizeof(newest), e);
        version = newest;
    }
    if (!rc)
        rc = fs_join(out, model_dir, version, e);
    if (!rc && !fs_is_dir(out))
        rc = err_set(e, ERR_NOTFOUND, "%s does not exist", out);
    return rc;
}

int model_find(const char *name, const char *dir, char *out, struct err *e)
{
    if (fs_exists(name)) {
        if (strlen(name) >= FS_PATH_MAX)
            return err_set(e, ERR_LIMIT, "path too long");
        strcpy(out, name);
        return 0;
    }
    char base[128], dirs[3][FS_PATH_MAX];
    if (strlen(name) >= sizeof(base) || strstr(name, "..") || name[0] == '/')
        return err_set(e, ERR_NOTFOUND, "no model at %.200s", name);
    strcpy(base, name);
    char *version = strpbrk(base, "/@");
    if (version)
        *version++ = 0;
    int n = 1;
    if (dir)
        snprintf(dirs[0], FS_PATH_MAX, "%s", dir);
    else
        n = default_dirs(dirs);
    char looked[600] = "";
    for (int i = 0; i < n; i++) {
        if (find_below(dirs[i], base, version, out, e) == 0)
            return 0;
        size_t at = strlen(looked);
        snprintf(looked + at, sizeof(looked) - at, "%s%.180s", i ? ", " : "", dirs[i]);
    }
    return err_set(e, ERR_NOTFOUND, "no model '%s'; looked in %s", name, looked);
}

/* ---- model.json -------------------------------------------------------------------------------------------------- */

static int field_text(const json_t *o, const char *key, char *out, size_t size, struct err *e)
{
    const char *s = json_string_value(json_object_get(o, key));
    if (!s || strlen(s) >= size)
        return err_set(e, ERR_CORRUPT, "\"%s\" must be a string of less than %zu bytes", key, size);
    strcpy(out, s);
    return 0;
}

static int field_int(const json_t *o, const char *key, int lo, int hi, int *out, struct err *e)
{
    const json_t *v = json_object_get(o, key);
    json_int_t i = json_integer_value(v);
    if (!json_is_integer(v) || i < lo || i > hi)
        return err_set(e, ERR_CORRUPT, "\"%s\" must be an integer from %d to %d", key, lo, hi);
    *out = (int)i;
    return 0;
}

static int field_rgb(const json_t *o, const char *key, double above, float out[3], struct err *e)
{
    const json_t *v = json_object_get(o, key);
    for (size_t i = 0; i < 3; i++) {
        const json_t *c = json_array_get(v, i);
        double d = json_number_value(c);
        if (json_array_size(v) != 3 || !json_is_number(c) || !isfinite(d) || d <= above || d > 1e3)
            return err_set(e, ERR_CORRUPT, "\"%s\" must be three numbers above %g", key, above);
        out[i] = (float)d;
    }
    return 0;
}

static int read_fields(const json_t *o, struct model_info *info, char *file, size_t file_size, struct err *e)
{
    char arch[64];
    int rc = field_text(o, "arch", arch, sizeof(arch), e);
    if (rc || (rc = net_arch_parse(arch, &info->arch, e)))
        return rc;
    if ((rc = field_text(o, "name", info->name, sizeof(info->name), e)) ||
        (rc = field_text(o, "version", info->version, sizeof(info->version), e)) ||
        (rc = field_text(o, "sha256", info->sha256, sizeof(info->sha256), e)) ||
        (rc = field_text(o, "weights", file, file_size, e)) ||
        (rc = field_int(o, "input_px", MODEL_PX_MIN, MODEL_PX_MAX, &info->input_px, e)) ||
        (rc = field_int(o, "clip_length", 1, 64, &info->clip_length, e)) ||
        (rc = field_rgb(o, "mean", -1e3, info->mean, e)) || (rc = field_rgb(o, "std", 0, info->std, e)))
        return rc;
    if (!file[0] || strchr(file, '/') || file[0] == '.')
        return err_set(e, ERR_CORRUPT, "\"weights\" must name a file beside %s", MODEL_JSON);
    return 0;
}

static int read_json(struct model *m, const char *dir, struct err *e)
{
    char path[FS_PATH_MAX], file[256];
    struct buf text = BUF_INIT;
    json_t *root = NULL;
    json_error_t je;
    int rc = fs_join(path, dir, MODEL_JSON, e);
    if (rc || (rc = fs_read(path, JSON_MAX_BYTES, &text, e)))
        goto out;
    root = json_loadb(text.data, text.len, JSON_REJECT_DUPLICATES, &je);
    if (!json_is_object(root)) {
        rc = err_set(e, ERR_CORRUPT, "%s: %s", path, root ? "not an object" : je.text);
        goto out;
    }
    rc = read_fields(root, &m->info, file, sizeof(file), e);
    if (rc) {
        err_wrap(e, "%s", path);
        goto out;
    }
    if ((rc = fs_join(m->path, dir, file, e)))
        goto out;
    m->json = buf_steal(&text, NULL);
    m->info.json = m->json;
out:
    json_decref(root);
    buf_free(&text);
    return rc;
}

/* ---- walking ----------------------------------------------------------------------------------------------------- */

static int visit_version(const char *root, const char *model_dir, const char *name, const char *version,
                         model_each_fn *fn, void *arg, struct err *e)
{
    char path[FS_PATH_MAX], found[FS_PATH_MAX], json[FS_PATH_MAX], ref[160];
    struct model m = {0};
    struct err why = {0};
    snprintf(ref, sizeof(ref), "%.64s@%.64s", name, version);
    if (fs_join(path, model_dir, version, NULL) || fs_join(json, path, MODEL_JSON, NULL) || !fs_exists(json) ||
        model_find(ref, root, found, NULL) || strcmp(found, path) != 0)
        return 0;
    int rc = read_json(&m, path, &why);
    if (rc)
        log_warn(LOG_MSG("a model is left out"), LOG_STR("error", why.msg));
    else
        rc = fn(arg, path, &m.info, e);
    free(m.json);
    return rc;
}

/* `root` NULL: `dir` is one of the default folders, whose models an earlier one may hide. */
static int visit_models(const char *root, const char *dir, model_each_fn *fn, void *arg, struct err *e)
{
    struct fs_list models = {0}, versions = {0};
    int rc = fs_is_dir(dir) ? fs_list(dir, &models, e) : 0;
    for (size_t i = 0; !rc && i < models.n; i++) {
        char model_dir[FS_PATH_MAX];
        if (models.names[i][0] == '.' || fs_join(model_dir, dir, models.names[i], NULL) || !fs_is_dir(model_dir))
            continue;
        rc = fs_list(model_dir, &versions, e);
        for (size_t k = 0; !rc && k < versions.n; k++)
            if (versions.names[k][0] != '.')
                rc = visit_version(root, model_dir, models.names[i], versions.names[k], fn, arg, e);
        fs_list_free(&versions);
        versions = (struct fs_list){0};
    }
    fs_list_free(&models);
    return rc;
}

int model_each(const char *dir, model_each_fn *fn, void *arg, struct err *e)
{
    char dirs[3][FS_PATH_MAX];
    if (dir)
        return visit_models(dir, dir, fn, arg, e);
    int n = default_dirs(dirs), rc = 0;
    for (int i = 0; i < n && !rc; i++)
        rc = visit_models(NULL, dirs[i], fn, arg, e);
    return rc;
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

static void unload(struct loaded *l)
{
    weights_free(l->weights);
    scope_free(l->scope);
    *l = (struct loaded){0};
}

static int make(struct loaded *l, struct tensor_device dev, struct err *e)
{
    l->scope = scope_new(NULL, dev);
    l->weights = l->scope ? weights_new(l->scope) : NULL;
    if (l->weights)
        return 0;
    unload(l);
    return err_set(e, ERR_NOMEM, "weights of a model");
}

const struct weights *model_weights(struct model *m, struct err *e)
{
    if (!m->plain.weights) {
        if (make(&m->plain, m->dev, e))
            return NULL;
        int rc = weights_load(m->plain.weights, m->path, e);
        if (!rc && m->info.arch && net_check(m->info.arch, m->plain.weights, false, e))
            rc = err_wrap(e, "%s", m->path);
        if (rc)
            unload(&m->plain);
    }
    return m->plain.weights;
}

const struct weights *model_folded(struct model *m, struct err *e)
{
    if (!m->folded.weights) {
        const struct weights *w = model_weights(m, e);
        if (!w || make(&m->folded, m->dev, e))
            return NULL;
        if (net_fold(m->info.arch, w, m->folded.weights, e)) {
            err_wrap(e, "%s", m->path);
            unload(&m->folded);
        }
    }
    return m->folded.weights;
}

void model_trim(struct model *m)
{
    unload(&m->folded); /* shares tensors with the plain ones */
    unload(&m->plain);
}

/* ---- opening ----------------------------------------------------------------------------------------------------- */

static void bare_info(struct model *m, const char *path)
{
    const char *stem;
    size_t n = fs_stem(path, &stem);
    snprintf(m->info.name, sizeof(m->info.name), "%.*s", (int)n, stem);
    snprintf(m->path, sizeof(m->path), "%s", path);
}

/* A bare file: the architecture is the caller's, or what the file says of itself. */
static int open_bare(struct model *m, const char *arch, struct err *e)
{
    const struct weights *w = model_weights(m, e);
    if (!w)
        return e->code;
    const char *says = weights_meta(w, "arch");
    if (arch && says && strcmp(arch, says) != 0)
        return err_set(e, ERR_INVALID, "%s holds %.80s, not %.80s", m->path, says, arch);
    if (!arch && !says)
        return err_set(e, ERR_UNSUPPORTED, "%s does not say its architecture; name it", m->path);
    int rc = net_arch_parse(arch ? arch : says, &m->info.arch, e);
    if (!rc)
        rc = net_check(m->info.arch, w, false, e);
    if (rc)
        return err_wrap(e, "%s", m->path);
    m->info.input_px = m->info.arch->input_px;
    m->info.clip_length = m->info.arch->clip_length;
    memcpy(m->info.mean, m->info.arch->mean, sizeof(m->info.mean));
    memcpy(m->info.std, m->info.arch->std, sizeof(m->info.std));
    return 0;
}

static int check_hash(struct model *m, struct err *e)
{
    char want[SHA256_HEX_SIZE];
    strcpy(want, m->info.sha256);
    int rc = sha256_file_hex(m->path, m->info.sha256, e);
    if (!rc && want[0] && strcmp(want, m->info.sha256) != 0)
        rc = err_set(e, ERR_CORRUPT, "%s has sha256 %s, %s says %s", m->path, m->info.sha256, MODEL_JSON, want);
    return rc;
}

static void count_values(struct model *m, const struct weights *w)
{
    m->info.bytes = fs_size(m->path);
    for (size_t i = 0; i < weights_count(w); i++)
        m->info.params += tensor_numel(weights_at(w, i));
}

int model_open_as(const char *path, const char *arch, struct tensor_device dev, struct model **out, struct err *e)
{
    struct err local;
    e = e ? e : &local;
    *out = NULL;
    struct model *m = calloc(1, sizeof(*m));
    if (!m)
        return err_set(e, ERR_NOMEM, "model %s", path);
    m->dev = dev;
    bool folder = fs_is_dir(path);
    int rc = folder ? read_json(m, path, e) : (bare_info(m, path), 0);
    if (!rc && folder && arch && strcmp(arch, m->info.arch->name) != 0)
        rc = err_set(e, ERR_INVALID, "%s holds %s, not %s", path, m->info.arch->name, arch);
    if (!rc)
        rc = check_hash(m, e);
    if (!rc && !folder)
        rc = open_bare(m, arch, e);
    const struct weights *w = rc ? NULL : model_weights(m, e);
    if (!w) {
        model_close(m);
        return e->code;
    }
    count_values(m, w);
    *out = m;
    return 0;
}

int model_open(const char *path, struct tensor_device dev, struct model **out, struct err *e)
{
    return model_open_as(path, NULL, dev, out, e);
}

void model_close(struct model *m)
{
    if (!m)
        return;
    model_trim(m);
    free(m->json);
    free(m);
}

const struct model_info *model_info(const struct model *m)
{
    return &m->info;
}

struct tensor_device model_device(const struct model *m)
{
    return m->dev;
}

/* ---- writing ----------------------------------------------------------------------------------------------------- */

/* Tensors of the architecture only: what published files carry beside them is left out. */
int model_save_weights(const struct net_arch *a, const char *path, const struct weights *w, enum tensor_dtype dt,
                       struct err *e)
{
    const char *meta[] = {"arch", a->name, "format", "salient", NULL};
    struct net_params p = {0};
    struct weights *own = NULL;
    int rc = net_check(a, w, false, e);
    if (rc || (rc = net_params(a, &p, e)))
        goto out;
    own = weights_new(weights_scope(w));
    rc = own ? 0 : err_set(e, ERR_NOMEM, "%s", path);
    for (size_t i = 0; !rc && i < p.n; i++)
        rc = weights_set(own, p.v[i].name, weights_get(w, p.v[i].name), e);
    if (!rc)
        rc = weights_save_safetensors(own, path, dt, meta, e);
out:
    weights_free(own);
    net_params_free(&p);
    return rc;
}

static json_t *rgb_json(const float v[3])
{
    return json_pack("[f,f,f]", (double)v[0], (double)v[1], (double)v[2]);
}

static int free_object(const char *text, const char *what, json_t **out, struct err *e)
{
    json_error_t je;
    *out = text ? json_loads(text, JSON_REJECT_DUPLICATES, &je) : json_object();
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL;
    return err_set(e, ERR_INVALID, "\"%s\" of a model must be a JSON object", what);
}

char *model_describe(const struct model_meta *meta, const char *sha256, struct err *e)
{
    json_t *training = NULL, *metrics = NULL, *root = NULL;
    char *text = NULL;
    const struct net_arch *a = meta->arch;
    if (free_object(meta->training, "training", &training, e) || free_object(meta->metrics, "metrics", &metrics, e))
        goto out;
    root = json_pack("{s:s, s:s, s:s, s:i, s:i, s:o, s:o, s:s, s:s, s:O, s:O}", "name", meta->name, "version",
                     meta->version, "arch", a->name, "input_px", meta->input_px ? meta->input_px : a->input_px,
                     "clip_length", a->clip_length, "mean", rgb_json(a->mean), "std", rgb_json(a->std), "weights",
                     MODEL_FILE, "sha256", sha256, "training", training, "metrics", metrics);
    text = root ? json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    if (!text)
        err_set(e, ERR_NOMEM, "%s of %s", MODEL_JSON, meta->name);
out:
    json_decref(root);
    json_decref(training);
    json_decref(metrics);
    return text;
}

static int write_json(const char *dir, const struct model_meta *meta, const char *sha256, struct err *e)
{
    char path[FS_PATH_MAX];
    int rc = fs_join(path, dir, MODEL_JSON, e);
    char *text = rc ? NULL : model_describe(meta, sha256, e);
    if (!rc)
        rc = text ? fs_write_atomic(path, text, strlen(text), e) : e ? e->code : ERR_NOMEM;
    free(text);
    return rc;
}

int model_save(const char *dir, const struct model_meta *meta, const struct weights *w, enum tensor_dtype dt,
               struct err *e)
{
    char path[FS_PATH_MAX], sha256[SHA256_HEX_SIZE];
    int rc = fs_mkdirs(dir, e);
    if (!rc)
        rc = fs_join(path, dir, MODEL_FILE, e);
    if (!rc)
        rc = model_save_weights(meta->arch, path, w, dt, e);
    if (!rc)
        rc = sha256_file_hex(path, sha256, e);
    if (!rc)
        rc = write_json(dir, meta, sha256, e);
    return rc;
}

/* ---- importing --------------------------------------------------------------------------------------------------- */

static int check_finite(const struct weights *w, const char *name, struct err *e)
{
    struct tensor *t = weights_get(w, name);
    int64_t n = tensor_numel(t);
    float *v = malloc((size_t)(n + 1) * sizeof(*v));
    if (!v)
        return err_set(e, ERR_NOMEM, "tensor %s", name);
    struct scope *s = weights_scope(w);
    tensor_read_f32(s, t, v, n);
    int rc = scope_status(s, e);
    for (int64_t i = 0; i < n && !rc; i++)
        if (!isfinite(v[i]))
            rc = err_set(e, ERR_INVALID, "tensor %s holds a value that is not finite", name);
    free(v);
    return rc;
}

static int check_import(const struct net_arch *a, const struct weights *w, struct err *e)
{
    struct net_params p = {0};
    int rc = net_check(a, w, false, e);
    if (!rc)
        rc = net_params(a, &p, e);
    for (size_t i = 0; i < p.n && !rc; i++)
        rc = check_finite(w, p.v[i].name, e);
    net_params_free(&p);
    return rc;
}

/* Whether the file stores its values in 16 bits. */
static bool is_half(const char *path, struct scope *s)
{
    struct weights *w = weights_new(s);
    bool half = w && weights_load_safetensors(w, path, true, NULL) == 0 && weights_count(w) > 0;
    for (size_t i = 0; half && i < weights_count(w); i++)
        half = tensor_dtype_of(weights_at(w, i)) == TENSOR_F16;
    weights_free(w);
    return half;
}

int model_import(const char *path, const char *arch, const char *out, struct err *e)
{
    struct loaded l = {0};
    const struct net_arch *a = NULL;
    int rc = make(&l, (struct tensor_device){.type = TENSOR_CPU}, e);
    if (!rc)
        rc = weights_load(l.weights, path, e);
    const char *says = rc ? NULL : weights_meta(l.weights, "arch");
    if (!rc && arch && says && strcmp(arch, says) != 0)
        rc = err_set(e, ERR_INVALID, "the file says it holds %.80s, not %.80s", says, arch);
    if (!rc && !arch && !says)
        rc = err_set(e, ERR_UNSUPPORTED, "the file does not say its architecture; name it");
    if (!rc)
        rc = net_arch_parse(arch ? arch : says, &a, e);
    if (!rc)
        rc = check_import(a, l.weights, e);
    if (!rc)
        rc = model_save_weights(a, out, l.weights, is_half(path, l.scope) ? TENSOR_F16 : TENSOR_F32, e);
    unload(&l);
    return rc;
}
