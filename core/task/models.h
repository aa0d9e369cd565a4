/*
 * Models between the registry and this machine: built-in ones are registered, registered ones are fetched.
 *
 * A registered version becomes a folder that model_open takes: the one in the models folder when its weights are the
 * same, else a copy of its blob in the cache, DIR/<sha256>/, made once per machine and checked by its hash each time it
 * is opened. Any number of processes may share a cache.
 */
#ifndef CORE_TASK_MODELS_H
#define CORE_TASK_MODELS_H

#include "core/net/model.h"
#include "core/store/registry.h"

/* Registers what is in the models folder (see model_find for dir NULL); cheap when it is known already. */
int models_register(struct store *s, const char *dir, struct err *e);
/* Puts the blobs of built-in versions, so that they outlive an upgrade of the program and reach machines without the
 * folder. ERR_FULL where storage is tight: they are a convenience, not worth the last gigabyte. */
int models_keep(struct store *s, struct blobs *b, const char *dir, struct err *e);

struct models_cache {
    struct blobs *blobs;
    const char *models_dir; /* NULL: see model_find */
    const char *dir;        /* made when missing */
};
/* The folder of a version. ERR_NOTFOUND: neither here nor among the blobs. */
int models_fetch(const struct models_cache *c, const struct registry_version *v, char out[FS_PATH_MAX], struct err *e);
/* Fetches and opens; a damaged copy is fetched again. */
int models_open(const struct models_cache *c, const struct registry_version *v, struct tensor_device dev,
                struct model **out, struct err *e);
/* registry_resolve, after a second look at the models folder when the name is not known. */
int models_resolve(struct store *s, const char *dir, const char *ref, struct registry_version *out, struct err *e);

#endif
