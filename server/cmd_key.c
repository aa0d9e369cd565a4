/* salient key: API keys of a service, made and ended where its database is. A running service sees changes at once. */
#include <stdio.h>
#include <string.h>

#include "core/base/clock.h"
#include "core/base/fs.h"
#include "core/base/opt.h"
#include "core/store/access.h"
#include "server/commands.h"

#define DAY_MS ((int64_t)86400000)

struct key_opts {
    const char *data, *db, *scopes, *tenant;
    int64_t days, grace_s, max_running;
};

static int show_secret(const struct api_key *k, const char *secret)
{
    printf("%s\n", secret);
    fprintf(stderr, "key %s (%s): %s; the secret above is shown this once\n", k->id, k->name, k->scopes);
    return 0;
}

static int key_add(struct store *s, const struct key_opts *o, const char *name, struct err *e)
{
    char secret[API_KEY_SECRET_SIZE];
    struct api_key made, want = {.name = (char *)(uintptr_t)name,
                                 .tenant = (char *)(uintptr_t)o->tenant,
                                 .scopes = (char *)(uintptr_t)o->scopes,
                                 .expires_ms = o->days ? clock_wall_ms() + o->days * DAY_MS : 0};
    int rc = api_key_add(s, &want, secret, &made, e);
    if (rc == 0 && o->max_running > 0)
        rc = tenant_set_max_running(s, o->tenant, o->max_running, e);
    if (rc == 0)
        rc = show_secret(&made, secret);
    api_key_fini(&made);
    return rc;
}

static const char *key_state(const struct api_key *k)
{
    return k->revoked_ms ? "revoked" : k->expires_ms && k->expires_ms <= clock_wall_ms() ? "expired" : "live";
}

static int key_list(struct store *s, const struct key_opts *o, const char *none, struct err *e)
{
    (void)o, (void)none;
    struct api_key_list l;
    int rc = api_key_list(s, &l, e);
    for (size_t i = 0; rc == 0 && i < l.n; i++) {
        const struct api_key *k = &l.items[i];
        char made[CLOCK_RFC3339_SIZE];
        printf("%s  %-8s %-20s %-24s tenant '%s'  made %s\n", k->id, key_state(k), k->name, k->scopes,
               k->tenant ? k->tenant : "", clock_rfc3339(k->created_ms, made));
    }
    api_key_list_fini(&l);
    return rc;
}

static int key_revoke(struct store *s, const struct key_opts *o, const char *id, struct err *e)
{
    (void)o;
    return api_key_revoke(s, id, e);
}

static int key_rotate(struct store *s, const struct key_opts *o, const char *id, struct err *e)
{
    char secret[API_KEY_SECRET_SIZE];
    struct api_key k;
    int rc = api_key_rotate(s, id, o->grace_s * 1000, secret, &k, e);
    if (rc == 0)
        rc = show_secret(&k, secret);
    api_key_fini(&k);
    return rc;
}

static const struct {
    const char *name;
    size_t operands;
    int (*run)(struct store *s, const struct key_opts *o, const char *operand, struct err *e);
} verbs[] = {
    {"add", 1, key_add},
    {"list", 0, key_list},
    {"revoke", 1, key_revoke},
    {"rotate", 1, key_rotate},
};

static int run(const struct key_opts *o, const char **pos, size_t npos, struct err *e)
{
    char url[FS_PATH_MAX + 32];
    size_t v = 0;
    while (v < sizeof(verbs) / sizeof(verbs[0]) && (npos == 0 || strcmp(pos[0], verbs[v].name) != 0))
        v++;
    if (v == sizeof(verbs) / sizeof(verbs[0]) || npos != 1 + verbs[v].operands)
        return err_set(e, ERR_INVALID, "say: add NAME, list, revoke ID or rotate ID");
    if (o->days < 0 || o->grace_s < 0 || o->max_running < 0)
        return err_set(e, ERR_INVALID, "numbers of days, seconds and jobs are not negative");
    int rc = o->db ? 0 : fs_mkdirs(o->data, e);
    snprintf(url, sizeof(url), "sqlite:%s/salient.db", o->data);
    struct store *s = NULL;
    if (rc == 0)
        rc = store_open(o->db ? o->db : url, NULL, &s, e);
    if (rc == 0)
        rc = verbs[v].run(s, o, pos[1], e);
    store_close(s);
    return rc;
}

int cmd_key(int argc, char **argv)
{
    struct key_opts o = {.data = "salient-data", .scopes = "read,submit,annotate", .tenant = "", .grace_s = 3600};
    const struct opt opts[] = {
        {"data", 0, OPT_STR, &o.data, "DIR", "the service's data directory"},
        {"db", 0, OPT_STR, &o.db, "URL", "its database, when it is not in DATA"},
        {"scopes", 0, OPT_STR, &o.scopes, "LIST", "add: read, submit, annotate, admin"},
        {"tenant", 0, OPT_STR, &o.tenant, "NAME", "add: sees only resources of this tenant; default: everybody's"},
        {"expires-days", 0, OPT_INT, &o.days, "N", "add: good for so long; 0: until revoked"},
        {"max-running", 0, OPT_INT, &o.max_running, "N", "add: jobs of the tenant that may run at once; 0: as it is"},
        {"grace", 0, OPT_INT, &o.grace_s, "S", "rotate: the old secret stays good for so long"},
        {0},
    };
    const struct opt_cmd cmd = {.name = "salient key",
                                .usage = "add NAME | list | revoke ID | rotate ID",
                                .summary =
                                    "API keys. A service without any is open to its own machine only; with one, every "
                                    "request needs a key. `add` and `rotate` print the secret alone on stdout.",
                                .opts = opts};
    struct err e = {0};
    const char *pos[2] = {NULL, NULL};
    size_t npos = 0;
    int rc = opt_parse(&cmd, argc, argv, pos, 2, &npos, &e);
    if (rc == 1)
        return 0;
    if (rc == 0)
        rc = run(&o, pos, npos, &e);
    if (rc < 0)
        fprintf(stderr, "salient key: %s\n", e.msg);
    return rc < 0;
}
