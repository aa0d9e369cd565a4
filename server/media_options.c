/* Values of media_options.def: checked, as the decoder's limits, and as arguments again. */
#include "server/media_options.h"

#include <stdio.h>
#include <string.h>

#include "core/base/opt.h"

#define SECONDS_MAX (1000.0 * 86400)

int media_limits(const struct media_opts *o, struct clip_limits *out, struct err *e)
{
    bool on = strcmp(o->sandbox, "on") == 0;
    if (!on && strcmp(o->sandbox, "off") != 0)
        return err_set(e, ERR_INVALID, "--sandbox is on or off, not '%s'", o->sandbox);
    if (o->max_bytes < 0 || o->max_pixels < 0 || o->max_frames < 0 || o->max_pixels > INT64_MAX / 64)
        return err_set(e, ERR_INVALID, "--max-bytes, --max-pixels and --max-frames are 0 or more");
    if (!(o->max_seconds >= 0 && o->max_seconds <= SECONDS_MAX))
        return err_set(e, ERR_INVALID, "--max-seconds is from 0 to %.0f", SECONDS_MAX);
    if (o->max_damaged < -1 || o->max_damaged > INT32_MAX)
        return err_set(e, ERR_INVALID, "--max-damaged is -1 or more");
    *out = (struct clip_limits){.max_bytes = o->max_bytes,
                                .max_pixels = o->max_pixels,
                                .max_frames = o->max_frames,
                                .max_decode_ms = (int64_t)(o->max_seconds * 1000),
                                .max_damaged = (int)o->max_damaged,
                                .sandbox = on ? CLIP_SANDBOXED : CLIP_UNSANDBOXED};
    return 0;
}

static void print_value(char text[32], enum opt_type type, const void *value)
{
    if (type == OPT_STR)
        snprintf(text, 32, "%s", *(const char *const *)value);
    else if (type == OPT_FLOAT)
        snprintf(text, 32, "%.17g", *(const double *)value);
    else
        snprintf(text, 32, "%lld", (long long)*(const int64_t *)value);
}

void media_args_make(const struct media_opts *o, struct media_args *out)
{
    static const struct {
        const char *flag;
        enum opt_type type;
        size_t at;
    } rows[] = {
#define MEDIA_OPTION(name, type, field, meta, help) {"--" name, type, offsetof(struct media_opts, field)},
#include "server/media_options.def"
#undef MEDIA_OPTION
    };
    _Static_assert(2 * sizeof(rows) / sizeof(rows[0]) <= MEDIA_ARGS_MAX, "room for every option");
    out->n = 0;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_value(out->text[i], rows[i].type, (const char *)o + rows[i].at);
        out->arg[out->n++] = rows[i].flag;
        out->arg[out->n++] = out->text[i];
    }
}
