/*
 * main: picks the command. Each command is `int cmd_NAME(int argc, char **argv)` in server/cmd_NAME.c and returns the
 * exit status; argv[0] is the command's own name. The list of commands is commands.def and nowhere else.
 */
#include <stdio.h>
#include <string.h>

#include "server/commands.h"

struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *summary;
};

static const struct command commands[] = {
#define COMMAND(name, summary) {#name, cmd_##name, summary},
#include "server/commands.def"
#undef COMMAND
};

static void usage(FILE *out)
{
    fputs("usage: salient COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-10s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`salient COMMAND --help` describes one.\n", out);
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
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "salient: no command '%s'; `salient --help` lists them\n", argv[1]);
    return 1;
}
