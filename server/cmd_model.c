/*
 * salient model import|info|run|step: bring published or trained weights into the project's form, look at them, and run the
 * bare network, or one training step of it, on a .npy array. All checks live in core/net; here is only the command line.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/opt.h"
#include "core/base/par.h"
#include "core/kernel/frame_in.h"
#include "core/net/model.h"
#include "core/net/npy.h"
#include "core/net/plan.h"
#include "core/task/train_step.h"
#include "server/commands.h"
#include "server/importer.h"

#define INPUT_MAX_BYTES ((size_t)4 << 30)

static int fail(const char *what, const struct err *e)
{
    fprintf(stderr, "salient model %s: %s\n", what, e->msg);
    return 1;
}

static int set_up(const char *device, int64_t threads, struct tensor_device *dev, struct err *e)
{
    if (threads < 0 || threads > 256)
        return err_set(e, ERR_INVALID, "--threads takes 0 to 256");
    int n = threads ? (int)threads : (int)sysconf(_SC_NPROCESSORS_ONLN);
    par_init(n < 1 ? 1 : n);
    tensor_set_threads(n < 1 ? 1 : n);
    return tensor_device_parse(device, dev, e);
}

/* ---- import ------------------------------------------------------------------------------------------------------ */

struct import_opts {
    const char *arch, *out, *device;
    int64_t threads, seed;
    bool half, untrusted;
};

/* An ImageNet backbone: fills its part of the network; the seed gives the rest. */
static int grow_backbone(const struct net_arch *a, struct weights *to, const struct weights *from, uint64_t seed,
                         struct err *e)
{
    size_t copied;
    int rc = net_init(a, to, seed, e);
    if (!rc)
        rc = net_transfer(a, to, from, &copied, e);
    if (!rc)
        fprintf(stderr,
                "salient model import: %zu of %zu tensors come from the backbone, seed %" PRIu64 " made the others\n",
                copied, weights_count(to), seed);
    return rc;
}

static int import_file(const char *path, const struct import_opts *o, struct err *e)
{
    const struct net_arch *a;
    struct tensor_device dev;
    int rc = net_arch_parse(o->arch, &a, e);
    if (rc || (rc = set_up(o->device, o->threads, &dev, e)))
        return rc;
    struct scope *s = scope_new(NULL, dev);
    struct weights *from = s ? weights_new(s) : NULL, *grown = s ? weights_new(s) : NULL;
    rc = from && grown ? weights_load(from, path, e) : err_set(e, ERR_NOMEM, "%s", path);
    const struct weights *w = from;
    if (!rc && net_is_backbone(a, from)) {
        rc = grow_backbone(a, grown, from, (uint64_t)o->seed, e);
        w = grown;
    }
    if (!rc && net_check(a, w, false, e))
        rc = err_wrap(e, "%s", path);
    if (!rc)
        rc = model_save_weights(a, o->out, w, o->half ? TENSOR_F16 : TENSOR_F32, e);
    weights_free(grown);
    weights_free(from);
    scope_free(s);
    return rc;
}

/* The service's way: no backbones, and errors as it wants to read them. */
static int import_untrusted(const char *path, const struct import_opts *o)
{
    struct err e = {0};
    importer_confine();
    tensor_set_threads(1);
    if (model_import(path, o->arch, o->out, &e) == 0)
        return 0;
    fprintf(stderr, "%s %s\n", err_name(e.code), e.msg);
    return 1;
}

static int cmd_import(int argc, char **argv)
{
    struct import_opts o = {.device = "cpu", .seed = 1};
    const struct opt opts[] = {
        {"arch", 0, OPT_STR, &o.arch, "NAME", "rcrnet-r50, fgplg-r50, rcrnet-lite or fgplg-lite"},
        {"output", 'o', OPT_STR, &o.out, "FILE", "the .safetensors file to write"},
        {"half", 0, OPT_BOOL, &o.half, NULL, "store 16-bit floats"},
        {"seed", 0, OPT_INT, &o.seed, "N", "seed of what a bare backbone does not hold"},
        {"untrusted", 0, OPT_BOOL, &o.untrusted, NULL, "read the file within narrow limits; no bare backbones"},
        {"device", 0, OPT_STR, &o.device, "DEVICE", "cpu, cuda, cuda:N or auto"},
        {"threads", 0, OPT_INT, &o.threads, "N", "0: all cores"},
        {0},
    };
    const struct opt_cmd cmd = {
        "salient model import", "FILE --arch NAME -o OUT.safetensors",
        "Checks a checkpoint (.pth of either format, or .safetensors) against an architecture and "
        "writes it as .safetensors. A bare ImageNet backbone is accepted too.",
        opts, NULL};
    const char *pos[1];
    size_t n;
    struct err e;
    int rc = opt_parse(&cmd, argc, argv, pos, 1, &n, &e);
    if (rc)
        return rc == 1 ? 0 : fail("import", &e);
    if (n == 1 && o.untrusted && o.out)
        return import_untrusted(pos[0], &o);
    if (n != 1 || !o.arch || !o.out) {
        err_set(&e, ERR_INVALID, "needs a FILE, --arch and -o");
        return fail("import", &e);
    }
    return import_file(pos[0], &o, &e) ? fail("import", &e) : 0;
}

/* ---- info -------------------------------------------------------------------------------------------------------- */

static int print_info(const char *name, const char *arch, const char *models, bool json, struct err *e)
{
    char path[FS_PATH_MAX];
    struct model *m;
    struct tensor_device cpu = {.type = TENSOR_CPU};
    int rc = model_find(name, models, path, e);
    if (rc || (rc = model_open_as(path, arch, cpu, &m, e)))
        return rc;
    const struct model_info *i = model_info(m);
    if (json && i->json) {
        puts(i->json);
    } else {
        printf("name         %s\nversion      %s\narchitecture %s\n", i->name, i->version[0] ? i->version : "-",
               i->arch->name);
        printf("input        %d channels, %d x %d, clips of %d\n", i->arch->in_channels, i->input_px, i->input_px,
               i->clip_length);
        printf("normalise    mean %.6g %.6g %.6g, std %.6g %.6g %.6g\n", (double)i->mean[0], (double)i->mean[1],
               (double)i->mean[2], (double)i->std[0], (double)i->std[1], (double)i->std[2]);
        printf("values       %" PRId64 "\nbytes        %" PRId64 "\nsha256       %s\n", i->params, i->bytes, i->sha256);
    }
    model_close(m);
    return 0;
}

static int cmd_info(int argc, char **argv)
{
    const char *arch = NULL, *models = NULL;
    bool json = false;
    const struct opt opts[] = {
        {"arch", 0, OPT_STR, &arch, "NAME", "architecture of a file that does not say"},
        {"models", 0, OPT_STR, &models, "DIR", "where models are looked up by name"},
        {"json", 0, OPT_BOOL, &json, NULL, "print model.json as it is"},
        {0},
    };
    const struct opt_cmd cmd = {"salient model info", "MODEL",
                                "Opens a model (a folder, a file, or NAME[@VERSION]), checks it and says what it is.",
                                opts, NULL};
    const char *pos[1];
    size_t n;
    struct err e;
    int rc = opt_parse(&cmd, argc, argv, pos, 1, &n, &e);
    if (rc)
        return rc == 1 ? 0 : fail("info", &e);
    if (n != 1) {
        err_set(&e, ERR_INVALID, "needs one MODEL");
        return fail("info", &e);
    }
    return print_info(pos[0], arch, models, json, &e) ? fail("info", &e) : 0;
}

/* ---- run --------------------------------------------------------------------------------------------------------- */

struct run_opts {
    const char *arch, *models, *input, *output, *head, *device;
    int64_t threads;
};

/* The network input (N,C,H,W) of an array: uint8 (T,H,W,3) is normalised at its own size, float32 (N,C,H,W) stays. */
static int prepare(const struct model_info *i, struct npy *a, struct plan_shape *shape, float **in, struct err *e)
{
    int channels = i->arch->in_channels;
    bool bytes = a->type == NPY_U8;
    if (a->ndim != 4 || a->shape[bytes ? 3 : 1] != channels)
        return err_set(e, ERR_INVALID, "--input must be uint8 (T,H,W,3) or float32 (N,%d,H,W)", channels);
    int64_t n = a->shape[0], h = a->shape[bytes ? 1 : 2], w = a->shape[bytes ? 2 : 3];
    if (n < 1 || n > 1024 || h < 1 || w < 1 || h > 8192 || w > 8192)
        return err_set(e, ERR_INVALID, "--input holds %" PRId64 " frames of %" PRId64 " x %" PRId64, n, w, h);
    shape->frames = (int)n;
    shape->height = (int)h;
    shape->width = (int)w;
    if (!bytes) {
        *in = a->data;
        a->data = NULL;
        return 0;
    }
    size_t pixels = (size_t)h * (size_t)w;
    struct frame_in f = {0};
    *in = malloc((size_t)n * 3 * pixels * sizeof(float));
    int rc =
        *in ? frame_in_init(&f, 3, (int)w, (int)h, (int)w, (int)h, i->mean, i->std, e) : err_set(e, ERR_NOMEM, "input");
    for (size_t t = 0; !rc && t < (size_t)n; t++)
        rc = frame_in_run(&f, (const uint8_t *)a->data + t * 3 * pixels, (ptrdiff_t)w * 3, *in + t * 3 * pixels, e);
    frame_in_fini(&f);
    return rc;
}

static int forward(struct model *m, struct plan_shape shape, float *in, const char *output, struct err *e)
{
    struct plan *p = NULL;
    int64_t dims[4] = {shape.frames, 1, shape.height, shape.width};
    float *logits = malloc((size_t)shape.frames * (size_t)shape.height * (size_t)shape.width * sizeof(float));
    int rc = logits ? plan_new(m, shape, &p, e) : err_set(e, ERR_NOMEM, "logits");
    if (!rc)
        rc = plan_run(p, in, logits, e);
    if (!rc)
        rc = npy_write_f32(output, logits, 4, dims, e);
    plan_free(p);
    free(logits);
    return rc;
}

static int run_model(const char *name, const struct run_opts *o, struct err *e)
{
    char path[FS_PATH_MAX];
    struct tensor_device dev;
    struct model *m = NULL;
    struct npy a = {0};
    float *in = NULL;
    struct plan_shape shape = {0};
    int rc = set_up(o->device, o->threads, &dev, e);
    if (rc || (rc = model_find(name, o->models, path, e)) || (rc = model_open_as(path, o->arch, dev, &m, e)) ||
        (rc = npy_read(o->input, INPUT_MAX_BYTES, &a, e)) || (rc = prepare(model_info(m), &a, &shape, &in, e)))
        goto out;
    shape.video = o->head ? strcmp(o->head, "video") == 0 : model_info(m)->arch->has_video;
    rc = forward(m, shape, in, o->output, e);
out:
    free(in);
    npy_free(&a);
    model_close(m);
    return rc;
}

static int cmd_run(int argc, char **argv)
{
    struct run_opts o = {.device = "cpu"};
    const struct opt opts[] = {
        {"input", 'i', OPT_STR, &o.input, "X.npy",
         "uint8 (T,H,W,3), normalised first, or float32 (N,C,H,W), taken as it is"},
        {"output", 'o', OPT_STR, &o.output, "Y.npy", "float32 logits (T,1,H,W) at the input's size"},
        {"head", 0, OPT_STR, &o.head, "video|image",
         "with the temporal module over the whole array, or each frame alone"},
        {"arch", 0, OPT_STR, &o.arch, "NAME", "architecture of a file that does not say"},
        {"models", 0, OPT_STR, &o.models, "DIR", "where models are looked up by name"},
        {"device", 0, OPT_STR, &o.device, "DEVICE", "cpu, cuda, cuda:N or auto"},
        {"threads", 0, OPT_INT, &o.threads, "N", "0: all cores"},
        {0},
    };
    const struct opt_cmd cmd = {
        "salient model run", "MODEL --input X.npy --output Y.npy",
        "Runs the bare network on an array: no resizing, no sigmoid. The head is video where the "
        "architecture has one.",
        opts, NULL};
    const char *pos[1];
    size_t n;
    struct err e;
    int rc = opt_parse(&cmd, argc, argv, pos, 1, &n, &e);
    if (rc)
        return rc == 1 ? 0 : fail("run", &e);
    if (n != 1 || !o.input || !o.output)
        rc = err_set(&e, ERR_INVALID, "needs a MODEL, --input and --output");
    else if (o.head && strcmp(o.head, "video") != 0 && strcmp(o.head, "image") != 0)
        rc = err_set(&e, ERR_INVALID, "--head is video or image, not '%.40s'", o.head);
    else
        rc = run_model(pos[0], &o, &e);
    return rc ? fail("run", &e) : 0;
}

/* ---- step -------------------------------------------------------------------------------------------------------- */

struct step_opts {
    struct run_opts run; /* output: the gradients */
    const char *target, *loss, *after;
    double lr;
    bool single;
};

/* The decimal that a float was written as: 0.485, not 0.485000014. */
static double decimal(float v)
{
    char text[32];
    snprintf(text, sizeof(text), "%.7g", (double)v);
    return strtod(text, NULL);
}

/* As prepare(), in float64: what is compared must not differ by how its input was rounded. */
static int prepare_exactly(const struct model_info *i, const struct npy *a, struct train_step *t, double **out,
                           struct err *e)
{
    bool bytes = a->type == NPY_U8;
    if (a->ndim != 4 || a->shape[bytes ? 3 : 1] != i->arch->in_channels)
        return err_set(e, ERR_INVALID, "--input must be uint8 (T,H,W,3) or float32 (N,%d,H,W)", i->arch->in_channels);
    int64_t n = a->shape[0], h = a->shape[bytes ? 1 : 2], w = a->shape[bytes ? 2 : 3];
    if (n < 1 || n > 1024 || h < 32 || w < 32 || h > 8192 || w > 8192)
        return err_set(e, ERR_INVALID, "--input holds %" PRId64 " frames of %" PRId64 " x %" PRId64, n, w, h);
    t->frames = (int)n;
    t->height = (int)h;
    t->width = (int)w;
    *out = malloc(a->count * sizeof(double));
    if (!*out)
        return err_set(e, ERR_NOMEM, "input");
    size_t plane = (size_t)h * (size_t)w;
    double mean[3], std[3];
    for (int c = 0; c < 3; c++) {
        mean[c] = decimal(i->mean[c]);
        std[c] = decimal(i->std[c]);
    }
    for (size_t k = 0; k < a->count; k++) {
        size_t frame = k / (3 * plane), c = k / plane % 3, at = k % plane;
        (*out)[k] = bytes ? (((const uint8_t *)a->data)[(frame * plane + at) * 3 + c] / 255.0 - mean[c]) / std[c]
                          : ((const float *)a->data)[k];
    }
    return 0;
}

/* (T,H,W) or (T,1,H,W) of the input's extent; bytes are masks, foreground where non-zero. */
static int prepare_target(const struct npy *a, const struct train_step *t, double **out, struct err *e)
{
    int at = a->ndim == 4 ? 2 : 1;
    bool fits = (a->ndim == 3 || (a->ndim == 4 && a->shape[1] == 1)) && a->shape[0] == t->frames &&
                a->shape[at] == t->height && a->shape[at + 1] == t->width;
    if (!fits)
        return err_set(e, ERR_INVALID, "--target must be uint8 or float32 (%d,%d,%d), one mask per input frame",
                       t->frames, t->height, t->width);
    *out = malloc(a->count * sizeof(double));
    if (!*out)
        return err_set(e, ERR_NOMEM, "target");
    for (size_t i = 0; i < a->count; i++) {
        double v = a->type == NPY_U8 ? ((const uint8_t *)a->data)[i] != 0 : (double)((const float *)a->data)[i];
        if (!(v >= 0 && v <= 1))
            return err_set(e, ERR_INVALID, "--target holds %g, outside 0 to 1", v);
        (*out)[i] = v;
    }
    return 0;
}

static int step_model(const char *name, const struct step_opts *o, struct err *e)
{
    char path[FS_PATH_MAX];
    struct train_step t = {
        .init = path, .loss = o->loss, .lr = o->lr, .single = o->single, .dump = o->run.output, .after = o->after};
    struct model *m = NULL;
    struct npy x = {0}, y = {0};
    double *in = NULL, *target = NULL, loss = 0;
    int rc = set_up(o->run.device, o->run.threads, &t.device, e);
    if (rc || (rc = model_find(name, o->run.models, path, e)) ||
        (rc = model_open_as(path, o->run.arch, t.device, &m, e)) ||
        (rc = npy_read(o->run.input, INPUT_MAX_BYTES, &x, e)) || (rc = npy_read(o->target, INPUT_MAX_BYTES, &y, e)) ||
        (rc = prepare_exactly(model_info(m), &x, &t, &in, e)) || (rc = prepare_target(&y, &t, &target, e)))
        goto out;
    t.arch = model_info(m)->arch;
    t.video = o->run.head ? strcmp(o->run.head, "video") == 0 : t.arch->has_video;
    t.input = in;
    t.target = target;
    rc = train_step_run(&t, &loss, e);
    if (!rc)
        printf("{\"loss\": %.9g}\n", loss);
out:
    free(in);
    free(target);
    npy_free(&x);
    npy_free(&y);
    model_close(m);
    return rc;
}

static int cmd_step(int argc, char **argv)
{
    struct step_opts o = {.run = {.device = "cpu"}, .loss = "bce", .lr = 1e-5};
    const struct opt opts[] = {
        {"input", 'i', OPT_STR, &o.run.input, "X.npy",
         "uint8 (T,H,W,3), normalised first, or float32 (N,C,H,W), taken as it is"},
        {"target", 't', OPT_STR, &o.target, "Y.npy", "a mask per frame: uint8, or float32 of 0 to 1, (T,H,W)"},
        {"output", 'o', OPT_STR, &o.run.output, "G.safetensors", "the loss, and gradients by parameter name"},
        {"after", 0, OPT_STR, &o.after, "W.safetensors", "write the weights after the step"},
        {"loss", 0, OPT_STR, &o.loss, "NAME", "bce, bce+iou or bce+iou+ssim"},
        {"lr", 0, OPT_FLOAT, &o.lr, "RATE", "learning rate of the step"},
        {"single", 0, OPT_BOOL, &o.single, NULL, "compute in float32 as training does, not in float64"},
        {"head", 0, OPT_STR, &o.run.head, "video|image",
         "with the temporal module over the whole array, or each frame alone"},
        {"arch", 0, OPT_STR, &o.run.arch, "NAME", "architecture of a file that does not say"},
        {"models", 0, OPT_STR, &o.run.models, "DIR", "where models are looked up by name"},
        {"device", 0, OPT_STR, &o.run.device, "DEVICE", "cpu, cuda, cuda:N or auto"},
        {"threads", 0, OPT_INT, &o.run.threads, "N", "0: all cores"},
        {0},
    };
    const struct opt_cmd cmd = {"salient model step", "MODEL --input X.npy --target Y.npy -o G.safetensors",
                                "Takes one step of the published training recipe on given frames and masks: binary "
                                "cross-entropy, Adam, batch-norm statistics frozen, no dropout. Prints the loss.",
                                opts, NULL};
    const char *pos[1];
    size_t n;
    struct err e;
    int rc = opt_parse(&cmd, argc, argv, pos, 1, &n, &e);
    if (rc)
        return rc == 1 ? 0 : fail("step", &e);
    if (n != 1 || !o.run.input || !o.target || !o.run.output)
        rc = err_set(&e, ERR_INVALID, "needs a MODEL, --input, --target and --output");
    else if (o.run.head && strcmp(o.run.head, "video") != 0 && strcmp(o.run.head, "image") != 0)
        rc = err_set(&e, ERR_INVALID, "--head is video or image, not '%.40s'", o.run.head);
    else
        rc = step_model(pos[0], &o, &e);
    return rc ? fail("step", &e) : 0;
}

/* ---- dispatch ---------------------------------------------------------------------------------------------------- */

static void usage(FILE *out)
{
    fputs("usage: salient model import|info|run|step ...\n\n"
          "  import  check a checkpoint and write it as .safetensors\n"
          "  info    open a model, check it and say what it is\n"
          "  run     run the bare network on a .npy array\n"
          "  step    loss and gradients of one training step on .npy arrays\n\n"
          "`salient model import --help` describes one.\n",
          out);
}

int cmd_model(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } verbs[] = {{"import", cmd_import}, {"info", cmd_info}, {"run", cmd_run}, {"step", cmd_step}};
    if (argc > 1 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].run(argc - 1, argv + 1);
    usage(stderr);
    return 1;
}
