/* The options about opening clips, shared by every command that does: media_options.def. */
#ifndef SERVER_MEDIA_OPTIONS_H
#define SERVER_MEDIA_OPTIONS_H

#include "core/media/clip.h"

struct media_opts {
    const char *sandbox;
    int64_t max_bytes, max_pixels, max_frames, max_damaged;
    double max_seconds;
};

#define MEDIA_OPTS_DEFAULT \
    {                      \
        .sandbox = "on"    \
    }

/* ERR_INVALID for values that make no sense. */
int media_limits(const struct media_opts *o, struct clip_limits *out, struct err *e);

/* The options as arguments, for a process that shall have the same: "--sandbox", "on", ... */
#define MEDIA_ARGS_MAX 12
struct media_args {
    char text[MEDIA_ARGS_MAX / 2][32];
    const char *arg[MEDIA_ARGS_MAX];
    int n;
};
void media_args_make(const struct media_opts *o, struct media_args *out);

#endif
