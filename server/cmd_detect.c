/* salient detect: saliency maps of one clip, as PNG files in a directory. The work is core/task/detect.c. */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/net/model.h"
#include "core/task/detect.h"
#include "core/tensor/tensor.h"
#include "server/commands.h"
#include "server/media_options.h"
#include "server/meter.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static bool is_interrupted(void *arg)
{
    (void)arg;
    return interrupted;
}

struct directory { /* the sink */
    const char *path;
};

static int write_map(void *arg, int64_t ordinal, const char *name, const void *png, size_t len, struct err *e)
{
    const struct directory *d = arg;
    char number[32], file[FS_PATH_MAX], with_ext[FS_PATH_MAX];
    snprintf(number, sizeof(number), "%05lld", (long long)ordinal);
    if (!name)
        name = number;
    if (snprintf(with_ext, sizeof(with_ext), "%s.png", name) >= (int)sizeof(with_ext))
        return err_set(e, ERR_LIMIT, "name too long: %.100s", name);
    int rc = fs_join(file, d->path, with_ext, e);
    if (rc == 0 && strchr(name, '/')) { /* a frame of a nested folder */
        char folder[FS_PATH_MAX];
        snprintf(folder, sizeof(folder), "%s", file);
        *strrchr(folder, '/') = 0;
        rc = fs_mkdirs(folder, e);
    }
    return rc == 0 ? fs_write_atomic(file, png, len, e) : rc;
}

struct detect_args {
    const char *output, *model, *models, *overlay, *device;
    int64_t size, threads;
    struct media_opts media;
};

static int run(const char *input, const struct detect_args *a, struct err *e)
{
    struct tensor_device device = {0};
    char model_path[FS_PATH_MAX];
    struct model *model = NULL;
    struct detect_result result;
    struct directory sink = {.path = a->output};
    struct clip_limits limits;
    struct meter meter;
    int threads = a->threads > 0 ? (int)a->threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    int rc = media_limits(&a->media, &limits, e);
    meter_start(&meter);
    if (rc == 0 && limits.sandbox == CLIP_SANDBOXED)
        rc = clip_sandbox_start(e); /* before anything large is loaded */
    if (rc == 0)
        rc = tensor_device_parse(a->device, &device, e);
    if (rc == 0)
        rc = model_find(a->model, a->models, model_path, e);
    if (rc < 0)
        return rc;
    tensor_set_threads(threads);
    par_init(threads);
    if ((rc = model_open(model_path, device, &model, e)) < 0 || (rc = fs_mkdirs(a->output, e)) < 0)
        goto out;
    const struct detect_opts opts = {
        .input = input,
        .limits = limits,
        .model = model,
        .size_px = (int)a->size,
        .sink = {.arg = &sink, .map = write_map},
        .overlay_path = a->overlay,
        .progress = meter_show,
        .progress_arg = &meter,
        .canceled = is_interrupted,
    };
    rc = detect_run(&opts, &result, e);
    if (rc == 0)
        fprintf(stderr, "%lld maps in %s, %.1f frames/s (decode %.1f s, network %.1f s, encode %.1f s)\n",
                (long long)result.frames, a->output,
                result.wall_ms ? (double)result.frames * 1000 / (double)result.wall_ms : 0,
                (double)result.decode_ms / 1000, (double)result.infer_ms / 1000, (double)result.encode_ms / 1000);
out:
    model_close(model);
    return rc;
}

int cmd_detect(int argc, char **argv)
{
    struct detect_args a = {.model = "rcrnet-lite", .device = "auto", .media = MEDIA_OPTS_DEFAULT};
    const struct opt opts[] = {
        {"output", 'o', OPT_STR, &a.output, "DIR", "where the maps go: DIR/<stem or %05d>.png"},
        {"model", 'm', OPT_STR, &a.model, "NAME|PATH", "the detector (default rcrnet-lite)"},
        {"models", 0, OPT_STR, &a.models, "DIR", "where models are looked up by name"},
        {"size", 0, OPT_INT, &a.size, "N", "side of the network's input in pixels (default: the model's)"},
        {"overlay", 0, OPT_STR, &a.overlay, "FILE", "also write an MP4 of the clip with the maps over it"},
        {"device", 0, OPT_STR, &a.device, "DEV", "cpu, cuda, cuda:N or auto (default)"},
        {"threads", 0, OPT_INT, &a.threads, "N", "threads of the network (default: all cores)"},
#define MEDIA_OPTION(name, type, field, meta, help) {name, 0, type, &a.media.field, meta, help},
#include "server/media_options.def"
#undef MEDIA_OPTION
        {0},
    };
    const struct opt_cmd cmd = {
        .name = "salient detect",
        .usage = "INPUT -o DIR",
        .summary =
            "Writes the saliency map of every frame of a video, an image, a zip of images or a folder of images.",
        .opts = opts,
    };
    struct err e = {0};
    const char *input;
    size_t n = 0;
    int rc = opt_parse(&cmd, argc, argv, &input, 1, &n, &e);
    if (rc > 0)
        return 0;
    if (rc == 0 && (n != 1 || !a.output))
        rc = err_set(&e, ERR_INVALID, "needs one INPUT and -o DIR; see --help");
    if (rc == 0) {
        struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESETHAND};
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        rc = run(input, &a, &e);
    }
    if (rc < 0)
        fprintf(stderr, "salient detect: %s\n", e.msg);
    return rc < 0;
}
