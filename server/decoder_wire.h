/* What the service and its decoder say to each other; both are the same binary, so plain structs will do. */
#ifndef SERVER_DECODER_WIRE_H
#define SERVER_DECODER_WIRE_H

#include <stdint.h>

#include "core/base/fs.h"
#include "core/media/clip.h"

#define DECODER_SLACK_MS 3000 /* on top of the decoding time: opening, queueing */
#define DECODER_ANSWER_MAX ((size_t)256 << 20)

enum decoder_op { DECODER_OPEN, DECODER_COUNT, DECODER_STILL };

struct decoder_request {
    enum decoder_op op;
    int64_t n; /* DECODER_STILL: which picture */
    struct clip_limits limits;
    int64_t memory_bytes;
    char path[FS_PATH_MAX];
};

struct decoder_answer { /* then payload_bytes of JPEG */
    int rc;
    struct clip_info info;
    int64_t payload_bytes;
    char message[512];
};

#endif
