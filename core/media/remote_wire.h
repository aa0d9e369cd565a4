/* Between remote.c and remote_child.c: one binary, so plain structs. One call, one reply, in turn. */
#ifndef CORE_MEDIA_REMOTE_WIRE_H
#define CORE_MEDIA_REMOTE_WIRE_H

#include <stddef.h>
#include <stdint.h>

#include "core/media/clip.h"

#define REMOTE_SLOTS 2
#define REMOTE_TEXT_MAX 600

/* To the nursery, with the child's descriptors: its socket, and perhaps the input. */
struct remote_birth {
    struct clip_limits limits;
    int64_t slot_bytes;
    int memory; /* System V id of the shared memory */
    int has_input;
};

/* From the nursery on the child's socket, before anything else. */
struct remote_hello {
    int pid;
};

enum remote_op {
    REMOTE_OPEN,  /* reply: info */
    REMOTE_NEXT,  /* into the slot */
    REMOTE_SKIP,  /* decode without converting */
    REMOTE_SEEK,  /* n */
    REMOTE_STILL, /* the descriptor that comes along, into the slot */
    REMOTE_NAMES, /* from the n-th on, NUL-terminated, as many as fit the slot; reply: count */
};

struct remote_call {
    enum remote_op op;
    int slot;
    int64_t n;
};

struct remote_reply {
    int rc;
    int width_px, height_px; /* of the picture in the slot; its rows are packed */
    int64_t ordinal, pts_ms, count;
    struct clip_info info;
    char text[REMOTE_TEXT_MAX];
};

#define REMOTE_FDS 2

/* Sends a message with up to two descriptors / receives one; -1 for those that did not come. 1, 0 at the end, -1 (errno). */
int remote_send(int socket, const void *data, size_t n, const int *fds, int n_fds);
int remote_receive(int socket, void *data, size_t n, int fds[REMOTE_FDS]);
/* The child: confines itself, answers until its socket closes, never returns. */
_Noreturn void remote_child(const struct remote_birth *birth, int socket, int input);

#endif
