/* salient worker: takes jobs from a store; `salient serve` starts its own. */
#include <stdio.h>

#include "core/base/log.h"
#include "core/base/opt.h"
#include "core/media/clip.h"
#include "server/commands.h"
#include "server/worker.h"

int cmd_worker(int argc, char **argv)
{
    struct worker_opts o = {.device = "auto",
                            .log_level = "info",
                            .lease_s = 15,
                            .min_free_bytes = (int64_t)64 << 20,
                            .media = MEDIA_OPTS_DEFAULT};
    const struct opt opts[] = {
        {"db", 0, OPT_STR, &o.db, "URL", "sqlite:PATH or postgresql://..."},
        {"blobs", 0, OPT_STR, &o.blobs, "DIR", "a directory or s3://BUCKET/PREFIX"},
        {"models", 0, OPT_STR, &o.models, "DIR", "where the models are"},
        {"cache", 0, OPT_STR, &o.cache, "DIR", "copies of registered models; default /var/tmp/salient-UID"},
        {"device", 0, OPT_STR, &o.device, "NAME", "cpu, cuda, cuda:N or auto"},
        {"threads", 0, OPT_INT, &o.threads, "N", "threads for computing; 0: all cores"},
        {"lease", 0, OPT_INT, &o.lease_s, "S", "seconds of silence after which others take the job over"},
#define MEDIA_OPTION(name, type, field, meta, help) {name, 0, type, &o.media.field, meta, help},
#include "server/media_options.def"
#undef MEDIA_OPTION
        {"min-free", 0, OPT_SIZE, &o.min_free_bytes, "BYTES", "results stop when less storage than this is left"},
        {"id", 0, OPT_STR, &o.id, "NAME", "unique name of this worker"},
        {"log-level", 0, OPT_STR, &o.log_level, "LEVEL", "debug, info, warn or error"},
        {0},
    };
    const struct opt_cmd cmd = {.name = "salient worker",
                                .usage = "--db URL --blobs DIR",
                                .summary = "Runs jobs from a store, also on another machine than the service. SIGTERM: "
                                           "finishes its job; a second one gives it back.",
                                .opts = opts};
    struct err e = {0};
    size_t npos = 0;
    enum log_level level;
    int rc = opt_parse(&cmd, argc, argv, NULL, 0, &npos, &e);
    if (rc == 1)
        return 0;
    if (rc == 0 && (!o.db || !o.blobs))
        rc = err_set(&e, ERR_INVALID, "--db and --blobs are needed");
    if (rc == 0 && log_parse_level(o.log_level, &level) != 0)
        rc = err_set(&e, ERR_INVALID, "unknown log level '%s'", o.log_level);
    if (rc == 0) {
        log_set_level(level);
        rc = clip_sandbox_start(&e); /* before anything large is loaded */
    }
    if (rc == 0)
        rc = worker_run(&o, &e);
    if (rc < 0)
        fprintf(stderr, "salient worker: %s\n", e.msg);
    return rc < 0;
}
