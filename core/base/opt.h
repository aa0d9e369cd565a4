/*
 * Options of a command: one table says name, type, default and help; values come from flags, then SALIENT_* environment
 * variables, then the config file ("name = value" lines, # comments), then the default. Unknown ones are errors.
 */
#ifndef CORE_BASE_OPT_H
#define CORE_BASE_OPT_H

#include <stddef.h>
#include <stdint.h>

#include "core/base/err.h"

enum opt_type { OPT_STR, OPT_INT, OPT_FLOAT, OPT_BOOL, OPT_SIZE, OPT_MULTI };

#define OPT_MULTI_MAX 64
struct opt_multi { /* a flag that may be given several times, in order */
    const char *v[OPT_MULTI_MAX];
    size_t n;
};

struct opt {
    const char *name;   /* "listen": --listen, SALIENT_LISTEN, listen = ...; '-' becomes '_' in the variable */
    char short_name;    /* 'o' or 0 */
    enum opt_type type; /* STR: const char **; INT, SIZE: int64_t * (SIZE takes K, M, G suffixes of 1024); FLOAT: double
                         * *; BOOL: bool *, --x, --x=false or --no-x; MULTI: struct opt_multi * */
    void *value;        /* holds the default before opt_parse */
    const char *meta;   /* "DIR" in the help */
    const char *help;
};

struct opt_cmd {
    const char *name;       /* "salient detect" */
    const char *usage;      /* "INPUT -o DIR" */
    const char *summary;    /* one paragraph */
    const struct opt *opts; /* ends with name == NULL */
    const char *config; /* path of a config file or NULL; a "--config FILE" flag of the table is honoured by itself */
};

/* Parses argv[1..]; positional arguments go to pos (capacity pos_max), their number to *npos. `--` ends the flags.
 * Returns 0; 1 after --help was printed to stdout; ERR_INVALID with a message otherwise. */
int opt_parse(const struct opt_cmd *cmd, int argc, char **argv, const char **pos, size_t pos_max, size_t *npos,
              struct err *e);

#endif
