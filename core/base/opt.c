/*
 * Options. Order of strength: flags, SALIENT_* variables, the config file, the default that stood in the value. Applied
 * weakest first, so the strongest is written last. Strings point into argv, the environment or a copy of the config
 * file that lives as long as the process.
 */
#include "core/base/opt.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/fs.h"

static const struct opt *find(const struct opt_cmd *cmd, const char *name, size_t len)
{
    for (const struct opt *o = cmd->opts; o->name; o++)
        if (strlen(o->name) == len && strncmp(o->name, name, len) == 0)
            return o;
    return NULL;
}

static int parse_int(const char *v, bool suffix, int64_t *out)
{
    char *end;
    errno = 0;
    long long n = strtoll(v, &end, 10);
    if (errno || end == v)
        return -1;
    int shift = 0;
    if (suffix && *end) {
        const char *at = strchr("KMGT", toupper((unsigned char)*end));
        if (!at)
            return -1;
        shift = 10 * (int)(at - "KMGT" + 1);
        end++;
    }
    if (*end || (suffix && n < 0) || (shift && n > (LLONG_MAX >> shift)))
        return -1;
    *out = (int64_t)((unsigned long long)n << shift);
    return 0;
}

static int parse_bool(const char *v, bool *out)
{
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"true", true}, {"false", false}, {"1", true},  {"0", false},
                 {"yes", true},  {"no", false},    {"on", true}, {"off", false}};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(v, words[i].text) == 0) {
            *out = words[i].value;
            return 0;
        }
    }
    return -1;
}

static int assign(const struct opt *o, const char *v, const char *where, struct err *e)
{
    char *end;
    int bad = 0;
    switch (o->type) {
    case OPT_STR:
        *(const char **)o->value = v;
        break;
    case OPT_INT:
        bad = parse_int(v, false, o->value);
        break;
    case OPT_SIZE:
        bad = parse_int(v, true, o->value);
        break;
    case OPT_FLOAT:
        errno = 0;
        *(double *)o->value = strtod(v, &end);
        bad = errno || end == v || *end;
        break;
    case OPT_BOOL:
        bad = parse_bool(v, o->value);
        break;
    case OPT_MULTI: {
        struct opt_multi *m = o->value;
        if (m->n == OPT_MULTI_MAX)
            return err_set(e, ERR_INVALID, "%s: more than %d values for %s", where, OPT_MULTI_MAX, o->name);
        m->v[m->n++] = v;
        break;
    }
    }
    return bad ? err_set(e, ERR_INVALID, "%s: '%s' is not a valid value for %s", where, v, o->name) : 0;
}

static char *trim(char *s)
{
    while (isspace((unsigned char)*s))
        s++;
    size_t n = strlen(s);
    while (n && isspace((unsigned char)s[n - 1]))
        s[--n] = 0;
    return s;
}

/* Option strings point into the file's text, so it lives as long as the process, on a list that leak checkers can see.
 */
static char *keep_text(struct buf *text)
{
    static struct kept {
        struct kept *next;
        char *text;
    } * all;
    struct kept *k = malloc(sizeof(*k));
    buf_puts(text, "");
    char *copy = k ? buf_steal(text, NULL) : NULL;
    if (!copy) {
        free(k);
        return NULL;
    }
    k->text = copy;
    k->next = all;
    all = k;
    return copy;
}

static int from_config(const struct opt_cmd *cmd, const char *path, struct err *e)
{
    struct buf text = BUF_INIT;
    int rc = fs_read(path, 1 << 20, &text, e);
    char *copy = rc ? NULL : keep_text(&text), *save = NULL;
    buf_free(&text);
    if (rc == 0 && !copy)
        return err_set(e, ERR_NOMEM, "%s: no memory to read it", path);
    int line_no = 0;
    for (char *rest = copy, *line; rc == 0 && rest && (line = strsep(&rest, "\n"));) {
        char where[FS_PATH_MAX + 32];
        snprintf(where, sizeof(where), "%.*s:%d", FS_PATH_MAX, path, ++line_no);
        line = trim(line);
        if (!*line || *line == '#')
            continue;
        save = strchr(line, '=');
        if (!save)
            return err_set(e, ERR_INVALID, "%s: expected name = value", where);
        *save = 0;
        char *name = trim(line);
        const struct opt *o = find(cmd, name, strlen(name));
        if (!o)
            return err_set(e, ERR_INVALID, "%s: no option '%s' for %s", where, name, cmd->name);
        rc = assign(o, trim(save + 1), where, e);
    }
    return rc;
}

static void env_name(const char *name, char out[64])
{
    int n = snprintf(out, 64, "SALIENT_");
    for (; *name && n < 63; name++)
        out[n++] = *name == '-' ? '_' : (char)toupper((unsigned char)*name);
    out[n] = 0;
}

static int from_env(const struct opt_cmd *cmd, struct err *e)
{
    for (const struct opt *o = cmd->opts; o->name; o++) {
        char var[64];
        env_name(o->name, var);
        const char *v = getenv(var);
        int rc = v && *v ? assign(o, v, var, e) : 0;
        if (rc)
            return rc;
    }
    return 0;
}

static void print_help(const struct opt_cmd *cmd)
{
    printf("usage: %s %s\n\n%s\n\noptions:\n", cmd->name, cmd->usage, cmd->summary);
    for (const struct opt *o = cmd->opts; o->name; o++) {
        char left[64];
        char shorthand[8] = "    ";
        if (o->short_name)
            snprintf(shorthand, sizeof(shorthand), "-%c, ", o->short_name);
        snprintf(left, sizeof(left), "%s--%s%s%s", shorthand, o->name, o->meta ? " " : "", o->meta ? o->meta : "");
        printf("  %-30s %s\n", left, o->help);
    }
    printf("  %-30s %s\n\nEvery option can be set as SALIENT_<NAME> in the environment", "    --help", "this text");
    printf("%s.\n", find(cmd, "config", 6) ? " or as `name = value` in the config file" : "");
}

/* One flag at argv[*i]; advances *i past a separate value. */
static int one_flag(const struct opt_cmd *cmd, int argc, char **argv, int *i, struct err *e)
{
    const char *a = argv[*i], *v = NULL;
    const struct opt *o = NULL;
    if (a[1] == '-') {
        const char *name = a + 2, *eq = strchr(name, '=');
        o = find(cmd, name, eq ? (size_t)(eq - name) : strlen(name));
        v = eq ? eq + 1 : NULL;
        if (!o && strncmp(name, "no-", 3) == 0) {
            o = find(cmd, name + 3, strlen(name + 3));
            if (o && o->type == OPT_BOOL)
                v = "false";
            else
                o = NULL;
        }
    } else {
        for (const struct opt *p = cmd->opts; p->name && !o; p++)
            if (p->short_name == a[1])
                o = p;
        v = o && a[2] ? a + 2 : NULL;
    }
    if (!o)
        return err_set(e, ERR_INVALID, "unknown option '%s'; `%s --help` lists them", a, cmd->name);
    if (!v && o->type == OPT_BOOL)
        v = "true";
    if (!v && *i + 1 >= argc)
        return err_set(e, ERR_INVALID, "option '%s' needs a value", a);
    return assign(o, v ? v : argv[++*i], a, e);
}

/* The config file's path must be known before the weaker sources are applied. */
static const char *config_path(const struct opt_cmd *cmd, int argc, char **argv)
{
    const char *path = cmd->config;
    if (!find(cmd, "config", 6))
        return path;
    const char *v = getenv("SALIENT_CONFIG");
    if (v && *v)
        path = v;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
            path = argv[i + 1];
        else if (strncmp(argv[i], "--config=", 9) == 0)
            path = argv[i] + 9;
    }
    return path;
}

/* A flag given on the command line replaces what the weaker sources put into a MULTI option. */
static void clear_multis_given(const struct opt_cmd *cmd, int argc, char **argv)
{
    for (const struct opt *o = cmd->opts; o->name; o++) {
        if (o->type != OPT_MULTI)
            continue;
        size_t n = strlen(o->name);
        for (int i = 1; i < argc; i++)
            if (strncmp(argv[i], "--", 2) == 0 && strncmp(argv[i] + 2, o->name, n) == 0 &&
                (argv[i][n + 2] == 0 || argv[i][n + 2] == '='))
                ((struct opt_multi *)o->value)->n = 0;
    }
}

int opt_parse(const struct opt_cmd *cmd, int argc, char **argv, const char **pos, size_t pos_max, size_t *npos,
              struct err *e)
{
    *npos = 0;
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            print_help(cmd);
            return 1;
        }
    }
    const char *config = config_path(cmd, argc, argv);
    int rc = config ? from_config(cmd, config, e) : 0;
    if (rc == 0)
        rc = from_env(cmd, e);
    clear_multis_given(cmd, argc, argv);
    bool flags = true;
    for (int i = 1; rc == 0 && i < argc; i++) {
        if (flags && strcmp(argv[i], "--") == 0)
            flags = false;
        else if (flags && argv[i][0] == '-' && argv[i][1])
            rc = one_flag(cmd, argc, argv, &i, e);
        else if (*npos == pos_max)
            rc = err_set(e, ERR_INVALID, "unexpected argument '%s'; usage: %s %s", argv[i], cmd->name, cmd->usage);
        else
            pos[(*npos)++] = argv[i];
    }
    return rc;
}
