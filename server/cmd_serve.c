/* salient serve: the HTTP service and its local workers, until SIGTERM or SIGINT. */
#include <stdio.h>

#include "core/base/log.h"
#include "core/base/opt.h"
#include "server/commands.h"
#include "server/service.h"

/* Numbers that make no sense are refused here, so nothing below needs to doubt them. */
static int check(const struct service_opts *o, struct err *e)
{
    const struct {
        const char *name;
        int64_t value, min, max;
    } ranges[] = {
        {"workers", o->workers, 0, 60},
        {"threads", o->threads, 0, 1024},
        {"max-upload", o->max_upload_bytes, 1, INT64_MAX / 2},
        {"queue-limit", o->queue_limit, 0, INT32_MAX},
        {"retention", o->retention_s, 1, INT32_MAX},
        {"lease", o->lease_s, 3, 3600},
        {"min-free", o->min_free_bytes, 0, INT64_MAX / 2},
        {"max-connections", o->max_connections, 1, 1000000},
        {"max-streams", o->max_streams, 1, 1000000},
        {"handlers", o->handlers, 1, 64},
        {"idle-timeout", o->idle_timeout_s, 1, 86400},
        {"grace", o->grace_s, 0, 86400},
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max)
            return err_set(e, ERR_INVALID, "--%s must be from %lld to %lld", ranges[i].name, (long long)ranges[i].min,
                           (long long)ranges[i].max);
    enum log_level level;
    if (log_parse_level(o->log_level, &level) != 0)
        return err_set(e, ERR_INVALID, "unknown log level '%s'", o->log_level);
    log_set_level(level);
    return 0;
}

int cmd_serve(int argc, char **argv)
{
    struct service_opts o = SERVICE_OPTS_DEFAULT;
    const char *config = NULL;
    const struct opt opts[] = {
#define OPTION(name, type, field, meta, help) {name, 0, type, &o.field, meta, help},
#include "server/serve_options.def"
#undef OPTION
#define MEDIA_OPTION(name, type, field, meta, help) {name, 0, type, &o.media.field, meta, help},
#include "server/media_options.def"
#undef MEDIA_OPTION
        {"config", 0, OPT_STR, &config, "FILE", "options as `name = value` lines"},
        {0},
    };
    const struct opt_cmd cmd = {.name = "salient serve",
                                .usage = "",
                                .summary = "Starts the HTTP service and its workers; SIGTERM drains and ends it.",
                                .opts = opts};
    struct err e = {0};
    size_t npos = 0;
    int rc = opt_parse(&cmd, argc, argv, NULL, 0, &npos, &e);
    if (rc == 1)
        return 0;
    if (rc == 0)
        rc = check(&o, &e);
    if (rc == 0)
        rc = service_run(&o, &e);
    if (rc < 0)
        fprintf(stderr, "salient serve: %s\n", e.msg);
    return rc < 0;
}
