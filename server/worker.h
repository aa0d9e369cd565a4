/* A worker process: claims jobs and runs them, one at a time. */
#ifndef SERVER_WORKER_H
#define SERVER_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "core/media/clip.h"
#include "core/store/store.h"
#include "core/task/models.h"
#include "core/tensor/tensor.h"
#include "server/media_options.h"

struct worker_opts {
    const char *db, *blobs, *models, *cache, *device, *id, *log_level;
    int64_t threads, lease_s, min_free_bytes;
    struct media_opts media;
};

/* Runs until SIGTERM, then finishes its job; a second SIGTERM gives the job back. 0, or a negative error. */
int worker_run(const struct worker_opts *opts, struct err *e);

/* ---- for the runners of each kind of job (server/run_*.c) ---- */

struct detector;
struct model;

/* One attempt at one job. */
struct run {
    struct store *store;
    struct blobs *blobs;
    const struct job *job;
    struct job_lease lease;
    struct models_cache models; /* of this machine */
    const char *scratch_dir;    /* for folders of its own; made by who needs it */
    struct clip_limits limits;
    struct tensor_device device;
    char prefix[96]; /* "jobs/{id}/{epoch}/": where results go */
    atomic_int
        verdict; /* 0, or why the attempt must stop: ERR_CANCELED, ERR_LEASE_LOST, ERR_BUSY (give the job back) */
    int64_t progress_ms; /* when progress was last told */
    struct worker *worker;
};

/* Makes the results. On 0, *outputs is the JSON object that describes them (malloc'd). */
typedef int run_fn(struct run *r, char **outputs, struct err *e);

run_fn run_saliency, run_eval, run_propagate, run_train;

/* True when the attempt must stop; poll it at every frame or step. */
bool run_stopped(void *run);
/* Tells how far the job is, at most some times a second. Usable as a progress callback. */
void run_progress(void *run, int64_t done, int64_t total);
/* A blob's or a stored clip's file: the blob itself or a private copy, removed by run_input_done. */
struct run_input {
    char path[FS_PATH_MAX];
    bool copy;
};
int run_blob_open(struct run *r, const char *key, struct run_input *in, struct err *e);
int run_input_open(struct run *r, const char *clip_id, struct run_input *in, struct err *e);
void run_input_done(struct run_input *in);
/* The model of that reference ("name", "name@version" or "name:alias"), kept open for the next job. What the job's own model
 * means is decided at its first attempt and stays (registry_pin). Borrowed. */
int run_model(struct run *r, const char *name, struct model **out, struct err *e);
/* What the job's own model means, from its first attempt on. Free with registry_version_fini. */
int run_pin(struct run *r, struct registry_version *out, struct err *e);
/* A detector of that model and input size (0: the model's own), ready for a clip, and kept for the next job. Borrowed. */
int run_detector(struct run *r, const char *name, int size_px, struct detector **out, struct err *e);

#endif
