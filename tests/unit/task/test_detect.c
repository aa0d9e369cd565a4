/* core/task/detect: the pipeline over a small untrained network: order, names, overlay, cancel, errors of every stage. */
#include "tests/unit/check.h"

#include <dirent.h>
#include <stdatomic.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/media/image.h"
#include "core/net/model.h"
#include "core/task/detect.h"

#define FRAMES 11
#define W 97
#define H 61

static char dir[] = "/tmp/salient-detect-XXXXXX";
static struct model *model;

static void in_dir(char out[FS_PATH_MAX], const char *name)
{
    assert_int_equal(fs_join(out, dir, name, NULL), 0);
}

static void write_frame(const char *path, int n)
{
    struct frame *f;
    assert_int_equal(frame_new(FRAME_RGB24, W, H, &f, NULL), 0);
    for (int y = 0; y < H; y++)
        for (int x = 0; x < W * 3; x++)
            f->data[y * f->stride_bytes + x] = (uint8_t)((x + n * 9) ^ y);
    assert_int_equal(image_write_png(path, f, NULL), 0);
    frame_unref(f);
}

static int setup(void **state)
{
    (void)state;
    struct tensor_device cpu = {TENSOR_CPU, 0};
    struct err e = {0};
    char path[FS_PATH_MAX], name[64];
    assert_non_null(mkdtemp(dir));
    tensor_set_threads(1);
    const struct net_arch *arch = net_arch_find("rcrnet-lite");
    struct scope *s = scope_new(NULL, cpu);
    struct weights *w = weights_new(s);
    assert_int_equal(net_init(arch, w, 7, &e), 0);
    in_dir(path, "model.safetensors");
    assert_int_equal(model_save_weights(arch, path, w, TENSOR_F16, &e), 0);
    weights_free(w);
    scope_free(s);
    assert_int_equal(model_open(path, cpu, &model, &e), 0);
    in_dir(path, "frames");
    assert_int_equal(fs_mkdirs(path, NULL), 0);
    for (int i = 0; i < FRAMES; i++) {
        snprintf(name, sizeof(name), "frames/f%d.png", i + 1);
        in_dir(path, name);
        write_frame(path, i);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    model_close(model);
    return fs_remove_tree(dir, NULL);
}

struct got {
    int begun, maps, fail_at;
    atomic_int polls;
    int cancel_after; /* polls; 0 never */
    int64_t progress, total;
};

static int on_begin(void *arg, const struct clip_info *info, struct err *e)
{
    (void)e;
    ((struct got *)arg)->begun++;
    assert_int_equal(info->width_px, W);
    return 0;
}

static int on_map(void *arg, int64_t ordinal, const char *name, const void *png, size_t len, struct err *e)
{
    struct got *g = arg;
    struct frame *map;
    char want[32];
    if (g->fail_at && g->maps + 1 == g->fail_at)
        return err_set(e, ERR_FULL, "the sink is full");
    snprintf(want, sizeof(want), "f%d", g->maps + 1);
    assert_int_equal(ordinal, g->maps);
    assert_string_equal(name, want);
    assert_int_equal(image_decode(png, len, IMAGE_GRAY, 0, &map, NULL), 0);
    assert_int_equal(map->width_px, W);
    assert_int_equal(map->height_px, H);
    frame_unref(map);
    g->maps++;
    return 0;
}

static void on_progress(void *arg, int64_t done, int64_t total)
{
    struct got *g = arg;
    assert_int_equal(done, g->progress + 1);
    g->progress = done;
    g->total = total;
}

static bool is_canceled(void *arg)
{
    struct got *g = arg;
    int n = atomic_fetch_add(&g->polls, 1) + 1;
    return g->cancel_after && n > g->cancel_after;
}

static int run(struct got *g, const char *input, const char *overlay, struct detect_result *r, struct err *e)
{
    struct detect_opts o = {.input = input,
                            .model = model,
                            .size_px = 64,
                            .sink = {.arg = g, .begin = on_begin, .map = on_map},
                            .overlay_path = overlay,
                            .progress = on_progress,
                            .progress_arg = g,
                            .canceled = is_canceled,
                            .canceled_arg = g};
    return detect_run(&o, r, e);
}

static void every_frame_gets_its_map_in_order(void **state)
{
    (void)state;
    char frames[FS_PATH_MAX], overlay[FS_PATH_MAX];
    struct detect_result r;
    struct clip_info info;
    struct got g = {0};
    struct err e = {0};
    in_dir(frames, "frames");
    in_dir(overlay, "overlay.mp4");
    assert_int_equal(run(&g, frames, overlay, &r, &e), 0);
    assert_int_equal(g.begun, 1);
    assert_int_equal(g.maps, FRAMES);
    assert_int_equal(g.progress, FRAMES);
    assert_int_equal(g.total, FRAMES);
    assert_int_equal(r.frames, FRAMES);
    assert_true(r.info.frames_exact);
    assert_int_equal(clip_probe(overlay, NULL, &info, &e), 0);
    assert_int_equal(info.frames, FRAMES);
    assert_int_equal(info.width_px, W + 1);
    assert_int_equal(info.height_px, H + 1);
}

static void a_clip_shorter_than_the_window_works(void **state)
{
    (void)state;
    char frame[FS_PATH_MAX];
    struct detect_result r;
    struct got g = {0};
    struct err e = {0};
    in_dir(frame, "frames/f1.png");
    assert_int_equal(run(&g, frame, NULL, &r, &e), 0);
    assert_int_equal(g.maps, 1);
}

static void cancel_stops_and_leaves_no_overlay(void **state)
{
    (void)state;
    char frames[FS_PATH_MAX], overlay[FS_PATH_MAX], part[FS_PATH_MAX];
    in_dir(frames, "frames");
    in_dir(overlay, "canceled.mp4");
    in_dir(part, "canceled.mp4.part");
    for (int after = 1; after <= 21; after += 4) {
        struct detect_result r;
        struct got g = {.cancel_after = after};
        struct err e = {0};
        assert_int_equal(run(&g, frames, overlay, &r, &e), ERR_CANCELED);
        assert_true(g.maps < FRAMES);
        assert_false(fs_exists(overlay));
        assert_false(fs_exists(part));
    }
}

static void an_error_of_the_sink_is_the_jobs_error(void **state)
{
    (void)state;
    char frames[FS_PATH_MAX];
    in_dir(frames, "frames");
    for (int at = 1; at <= FRAMES; at += 5) {
        struct detect_result r;
        struct got g = {.fail_at = at};
        struct err e = {0};
        assert_int_equal(run(&g, frames, NULL, &r, &e), ERR_FULL);
        assert_string_equal(e.msg, "the sink is full");
        assert_int_equal(g.maps, at - 1);
    }
}

static void an_error_of_the_decoder_is_the_jobs_error(void **state)
{
    (void)state;
    char frames[FS_PATH_MAX], bad[FS_PATH_MAX];
    struct detect_result r;
    struct got g = {0};
    struct err e = {0};
    in_dir(frames, "frames");
    in_dir(bad, "frames/f7x.png");
    assert_int_equal(fs_write_atomic(bad, "\x89PNG\r\n\x1a\nxxxx", 12, NULL), 0);
    assert_int_equal(run(&g, frames, NULL, &r, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, "f7x.png"));
    assert_true(g.maps <= 7);
    unlink(bad);
    assert_int_equal(run(&g, "/nonexistent", NULL, &r, &e), ERR_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_gets_its_map_in_order),
        cmocka_unit_test(a_clip_shorter_than_the_window_works),
        cmocka_unit_test(cancel_stops_and_leaves_no_overlay),
        cmocka_unit_test(an_error_of_the_sink_is_the_jobs_error),
        cmocka_unit_test(an_error_of_the_decoder_is_the_jobs_error),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
