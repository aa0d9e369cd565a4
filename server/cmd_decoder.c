/*
 * salient decoder: the process that forks confined decoders for the service (server/decoder.h). It stays single-threaded and small.
 * Started by the supervisor with the request socket as descriptor 3.
 */
#include <fcntl.h>
#include <stdio.h>

#include "core/media/clip.h"
#include "server/commands.h"
#include "server/decoder.h"

int cmd_decoder(int argc, char **argv)
{
    (void)argc, (void)argv;
    if (fcntl(DECODER_FD, F_GETFD) < 0) {
        fputs("salient decoder: started by `salient serve`, not by hand\n", stderr);
        return 1;
    }
    clip_sandbox_serve(DECODER_FD);
}
