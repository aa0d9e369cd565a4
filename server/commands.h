/* Entry points of the commands, declared from commands.def. */
#ifndef SERVER_COMMANDS_H
#define SERVER_COMMANDS_H

#define COMMAND(name, needs, summary) int cmd_##name(int argc, char **argv);
#include "server/commands.def"
#undef COMMAND

#endif
