/* salient version: what this binary is and what it computes with. */
#include <stdio.h>

#include "core/base/version.h"
#include "server/commands.h"

int cmd_version(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("salient %s\n", SALIENT_VERSION);
    return 0;
}
