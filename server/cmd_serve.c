/* salient serve: the HTTP service and its local workers, until SIGTERM or SIGINT. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/base/log.h"
#include "core/base/opt.h"
#include "server/commands.h"
#include "server/service.h"

int cmd_serve(int argc, char **argv)
{
    struct service_opts o = SERVICE_OPTS_DEFAULT;
    const char *level = "info", *config = NULL;
    const struct opt opts[] = {
#define OPTION(name, type, field, meta, help) {name, 0, type, &o.field, meta, help},
#include "server/serve_options.def"
#undef OPTION
        {"log-level", 0, OPT_STR, &level, "LEVEL", "debug, info, warn or error"},
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
    enum log_level min;
    if (rc == 0 && (rc = log_parse_level(level, &min)) != 0)
        err_set(&e, rc, "unknown log level '%s'", level);
    if (rc == 0) {
        log_set_level(min);
        rc = service_run(&o, &e);
    }
    if (rc < 0)
        fprintf(stderr, "salient serve: %s\n", e.msg);
    return rc < 0;
}
