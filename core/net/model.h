/*
 * A model: an architecture, its weights, and what is known about them. It is one of
 *   - a folder  <models>/<name>/<version>/ with model.safetensors and model.json (sha256 of the weights is checked),
 *   - a bare .safetensors file whose metadata names the architecture ("arch"), or a file opened with an explicit one.
 *
 * model.json: {"name", "version", "arch", "input_px", "clip_length", "mean": [3], "std": [3], "weights":
 * "model.safetensors", "sha256", "training": {...}, "metrics": {...}}; the last two are free and kept as they are.
 */
#ifndef CORE_NET_MODEL_H
#define CORE_NET_MODEL_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"
#include "core/base/fs.h"
#include "core/base/hash.h"
#include "core/net/net.h"

#define MODEL_FILE "model.safetensors"
#define MODEL_JSON "model.json"
#define MODEL_PX_MIN 64
#define MODEL_PX_MAX 2048

struct model;

struct model_info {
    char name[64], version[64]; /* of model.json; for a bare file its stem, and "" */
    const struct net_arch *arch;
    int input_px, clip_length;
    float mean[3], std[3];
    char sha256[SHA256_HEX_SIZE]; /* of the weights file */
    int64_t params, bytes;        /* number of values; size of the weights file */
    const char *json;             /* the text of model.json; NULL for a bare file. Lives as long as the model */
};

/* Finds what a user names: a path that exists, "name" (its newest version in natural order), "name/version" or
 * "name@version" below the models directory. dir NULL: $SALIENT_MODELS, else ../models and models beside the binary,
 * else /usr/local/share/salient/models. out[FS_PATH_MAX]. ERR_NOTFOUND tells where was looked. */
int model_find(const char *name, const char *dir, char *out, struct err *e);
/* Calls fn with the folder of every version that model_find finds by name and version, and with what its model.json
 * says: the weights are not looked at. A folder with a broken model.json is left out with a warning. fn returns 0 to go
 * on, anything else ends the walk and is returned. */
typedef int model_each_fn(void *arg, const char *path, const struct model_info *info, struct err *e);
int model_each(const char *dir, model_each_fn *fn, void *arg, struct err *e);
/* Opens a folder or a bare file. Errors: ERR_NOTFOUND, ERR_CORRUPT (damaged or another sha256), ERR_INVALID (not the
 * tensors of its architecture), ERR_UNSUPPORTED (unknown architecture), ERR_NOMEM. */
int model_open(const char *path, struct tensor_device dev, struct model **out, struct err *e);
/* As model_open, for a bare file of any readable format that does not say what it is. arch NULL: as model_open. */
int model_open_as(const char *path, const char *arch, struct tensor_device dev, struct model **out, struct err *e);
void model_close(struct model *m); /* NULL is fine; detectors must be freed before */

const struct model_info *model_info(const struct model *m);
struct tensor_device model_device(const struct model *m);
/* The weights as they were in the file, in float32, and the same network with its batch norms folded. Both are made
 * when first asked for and live until model_trim or model_close; NULL with e set on failure. Not for two threads at
 * once. */
const struct weights *model_weights(struct model *m, struct err *e);
const struct weights *model_folded(struct model *m, struct err *e);
/* Frees both: a captured network holds its own packed copy. They are read again when asked for again. */
void model_trim(struct model *m);

/* Writes a bare file that names its architecture. Only the architecture's own tensors are stored; w is checked first.
 */
int model_save_weights(const struct net_arch *a, const char *path, const struct weights *w, enum tensor_dtype dt,
                       struct err *e);

struct model_meta {
    const char *name, *version;
    const struct net_arch *arch;
    int input_px;         /* 0: the architecture's */
    const char *training; /* JSON objects as text: data, licence, seed, steps; metrics with their protocol. NULL: {} */
    const char *metrics;
};
/* model.json as text (free()): meta, and "sha256" of the weights. */
char *model_describe(const struct model_meta *meta, const char *sha256, struct err *e);
/* Writes dir/model.safetensors (values stored as dt) and dir/model.json, in that order, each atomically. The weights
 * are checked first. */
int model_save(const char *dir, const struct model_meta *meta, const struct weights *w, enum tensor_dtype dt,
               struct err *e);

/* Brings a weights file from anywhere (.pth of either format, .safetensors) into the form of model_save_weights at
 * `out`: half precision where it came so, else float32. arch NULL: what the file says of itself. Nothing in the file is
 * trusted. Errors as model_open_as, and ERR_INVALID for values that are not finite. */
int model_import(const char *path, const char *arch, const char *out, struct err *e);

#endif
