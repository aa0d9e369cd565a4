/*
 * main: picks the command. Each command is `int cmd_NAME(int argc, char **argv)` in server/cmd_NAME.c and returns the
 * exit status; argv[0] is the command's own name. The list of commands is commands.def and nowhere else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/tensor/tensor.h"
#include "server/commands.h"

enum { NOTHING, TENSORS, NETWORKS };

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    int needs;
    const char *summary;
};

static const struct command commands[] = {
#define COMMAND(name, needs, summary) {#name, cmd_##name, needs, summary},
#include "server/commands.def"
#undef COMMAND
};

static const struct command *find(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return &commands[i];
    return NULL;
}

static void usage(FILE *out)
{
    fputs("usage: salient COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`salient COMMAND --help` describes one.\n", out);
}

/*
 * Threads of the tensor library meet inside every operation and by default spin there for milliseconds, which is time taken from the
 * decoder, the encoder and everybody else. The OpenMP library reads its settings while it is loaded, so they must stand in the
 * environment before: this runs ahead of the libraries' constructors and starts the program once more with the setting added.
 */
static void calm_threads(int argc, char **argv, char **envp)
{
    static char setting[] = "GOMP_SPINCOUNT=5000";
    size_t n = 0;
    const struct command *c = argc > 1 ? find(argv[1]) : NULL;
    if (!c || c->needs != NETWORKS)
        return;
    for (; envp[n]; n++)
        if (strncmp(envp[n], "GOMP_SPINCOUNT=", 15) == 0 || strncmp(envp[n], "OMP_WAIT_POLICY=", 16) == 0)
            return;
    char **with = malloc((n + 2) * sizeof(*with));
    if (!with)
        return;
    memcpy(with, envp, n * sizeof(*with));
    with[n] = setting;
    with[n + 1] = NULL;
    execve("/proc/self/exe", argv, with);
    free(with); /* without /proc: as it is then */
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
__attribute__((section(".preinit_array"), used)) static void (*const before_libraries)(int, char **,
                                                                                       char **) = calm_threads;
#endif

static int run(const struct command *c, int argc, char **argv)
{
    struct err e = {0};
    if (c->needs != NOTHING && tensor_open(&e) < 0) {
        fprintf(stderr, "salient: %s\n", e.msg);
        return 1;
    }
    return c->run(argc, argv);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        usage(stderr);
        return 1;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    const char *name = strcmp(argv[1], "--version") == 0 ? "version" : argv[1];
    const struct command *c = find(name);
    if (c)
        return run(c, argc - 1, argv + 1);
    fprintf(stderr, "salient: no command '%s'; `salient --help` lists them\n", argv[1]);
    return 1;
}
