/* Models on disk and the detector over them. The detector's maps are compared with windows cut by hand and run through a plan. */
#include "tests/unit/check.h"

#include <math.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/base/par.h"
#include "core/base/rng.h"
#include "core/kernel/frame_in.h"
#include "core/kernel/map_out.h"
#include "core/net/detector.h"
#include "core/net/plan.h"

enum { PX = 64, T = 4, MAX_FRAMES = 24 };
static const struct tensor_device cpu = {.type = TENSOR_CPU};
static char models[] = "/tmp/salient-net-XXXXXX";

/* A small model whose temporal module matters: the merging convolution, zero at initialisation, gets values. */
static int make_model(void **state)
{
    (void)state;
    struct err e;
    struct rng r;
    const struct net_arch *a = net_arch_find("rcrnet-lite");
    assert_non_null(mkdtemp(models));
    struct scope *s = scope_new(NULL, cpu);
    struct weights *w = weights_new(s);
    assert_int_equal(net_init(a, w, 3, &e), 0);
    static float v[96 * 192 * 9], d[32];
    rng_seed(&r, 9);
    for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
        v[i] = (float)(0.05 * rng_normal(&r));
    for (size_t i = 0; i < 32; i++)
        d[i] = (float)rng_normal(&r);
    struct tensor *k = tensor_from(s, v, TENSOR_F32, 4, (int64_t[]){96, 192, 3, 3});
    struct tensor *last = tensor_from(s, d, TENSOR_F32, 4, (int64_t[]){1, 32, 1, 1});
    assert_int_equal(weights_set(w, "bidirection_conv.weight", k, &e), 0);
    assert_int_equal(weights_set(w, "backbone.decoder.conv2.weight", last, &e), 0);
    char dir[FS_PATH_MAX];
    snprintf(dir, sizeof(dir), "%s/tiny/2", models);
    struct model_meta meta = {.name = "tiny", .version = "2", .arch = a, .input_px = PX, .training = "{\"seed\": 3}"};
    int rc = model_save(dir, &meta, w, TENSOR_F16, &e);
    if (rc)
        fail_msg("%s", e.msg);
    weights_free(w);
    scope_free(s);
    return 0;
}

static int drop_model(void **state)
{
    (void)state;
    return fs_remove_tree(models, NULL);
}

static struct model *open_tiny(void)
{
    struct err e;
    struct model *m;
    char path[FS_PATH_MAX];
    if (model_find("tiny", models, path, &e) || model_open(path, cpu, &m, &e))
        fail_msg("%s", e.msg);
    return m;
}

/* ---- models ------------------------------------------------------------------------------------------------------ */

static void test_model(void **state)
{
    (void)state;
    struct err e;
    char path[FS_PATH_MAX];
    struct model *m = open_tiny();
    const struct model_info *i = model_info(m);
    assert_string_equal(i->name, "tiny");
    assert_string_equal(i->version, "2");
    assert_int_equal(i->input_px, PX);
    assert_int_equal(i->clip_length, T);
    assert_non_null(strstr(i->json, "\"seed\": 3"));
    assert_non_null(model_folded(m, &e));
    model_trim(m);
    assert_non_null(model_weights(m, &e)); /* read again */
    model_close(m);
    assert_int_equal(model_find("tiny@2", models, path, &e), 0);
    assert_int_equal(model_find("tiny/3", models, path, &e), ERR_NOTFOUND);
    assert_int_equal(model_find("../etc", models, path, &e), ERR_NOTFOUND);
    assert_int_equal(model_find("absent", models, path, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.msg, models));
}

static void test_newest_version_is_natural(void **state)
{
    (void)state;
    struct err e;
    char path[FS_PATH_MAX];
    static const char *const versions[] = {"9", "10", "draft"}; /* the last has no model.json */
    for (size_t i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/other/%s", models, versions[i]);
        assert_int_equal(fs_mkdirs(path, &e), 0);
        snprintf(path, sizeof(path), "%s/other/%s/model.json", models, versions[i]);
        if (i < 2)
            assert_int_equal(fs_write_atomic(path, "{}", 2, &e), 0);
    }
    assert_int_equal(model_find("other", models, path, &e), 0);
    assert_string_equal(path + strlen(path) - 3, "/10");
}

/* Puts `to` for the first `from` of model.json in a copy of the model, and expects it refused with `word` in the message. */
static void refused(const char *from, const char *to, int code, const char *word)
{
    struct err e = {0};
    struct buf text = BUF_INIT, out = BUF_INIT;
    struct model *m;
    char path[FS_PATH_MAX], dir[FS_PATH_MAX];
    snprintf(path, sizeof(path), "%s/tiny/2/model.json", models);
    assert_int_equal(fs_read(path, 1 << 20, &text, &e), 0);
    char *at = strstr(text.data, from);
    assert_non_null(at);
    buf_append(&out, text.data, (size_t)(at - text.data));
    buf_puts(&out, to);
    buf_puts(&out, at + strlen(from));
    snprintf(dir, sizeof(dir), "%s/bad", models);
    fs_mkdirs(dir, NULL);
    snprintf(path, sizeof(path), "%s/bad/model.json", models);
    assert_int_equal(fs_write_atomic(path, out.data, out.len, &e), 0);
    snprintf(path, sizeof(path), "%s/bad/model.safetensors", models);
    char target[FS_PATH_MAX];
    snprintf(target, sizeof(target), "%s/tiny/2/model.safetensors", models);
    (void)!symlink(target, path);
    int rc = model_open(dir, cpu, &m, &e);
    if (rc != code || !strstr(e.msg, word))
        fail_msg("'%s' -> '%s': got %d, %s", from, to, rc, e.msg);
    buf_free(&text);
    buf_free(&out);
}

static void test_bad_json(void **state)
{
    (void)state;
    refused("\"rcrnet-lite\"", "\"rcrnet-huge\"", ERR_UNSUPPORTED, "rcrnet-huge");
    refused("\"rcrnet-lite\"", "\"fgplg-lite\"", ERR_INVALID, "conv_stem");
    refused("\"input_px\": 64", "\"input_px\": 64000", ERR_CORRUPT, "input_px");
    refused("\"input_px\": 64", "\"input_px\": \"64\"", ERR_CORRUPT, "input_px");
    refused("\"clip_length\": 4", "\"clip_length\": 0", ERR_CORRUPT, "clip_length");
    refused("\"std\": [", "\"std\": [0, ", ERR_CORRUPT, "std");
    refused("\"mean\"", "\"moan\"", ERR_CORRUPT, "mean");
    refused("\"model.safetensors\"", "\"../tiny/2/model.safetensors\"", ERR_CORRUPT, "weights");
    refused("\"model.safetensors\"", "\"gone.safetensors\"", ERR_NOTFOUND, "gone");
    refused("\"sha256\": \"", "\"sha256\": \"0", ERR_CORRUPT, "sha256");
    refused("\"name\": \"tiny\"", "\"name\": \"tiny\", \"name\": \"twin\"", ERR_CORRUPT, "model.json");
    refused("{", "[", ERR_CORRUPT, "model.json");
}

/* ---- the detector ------------------------------------------------------------------------------------------------ */

struct result {
    uint8_t *maps[MAX_FRAMES];
    int64_t next; /* ordinal expected */
    int stop_at;  /* emit fails there; -1 never */
};

static int collect(void *arg, int64_t ordinal, const uint8_t *map, int width, int height, struct err *e)
{
    struct result *r = arg;
    assert_int_equal(ordinal, r->next);
    if (ordinal == r->stop_at)
        return err_set(e, ERR_CANCELED, "enough");
    r->maps[ordinal] = malloc((size_t)width * (size_t)height);
    memcpy(r->maps[ordinal], map, (size_t)width * (size_t)height);
    r->next++;
    return 0;
}

static void free_maps(struct result *r)
{
    for (int i = 0; i < MAX_FRAMES; i++)
        free(r->maps[i]);
    *r = (struct result){.stop_at = -1};
}

/* A bright square that wanders over noise; frame i of any clip. */
static struct frame *picture(int i, int w, int h)
{
    struct frame *f;
    struct rng r;
    assert_int_equal(frame_new(FRAME_RGB24, w, h, &f, NULL), 0);
    rng_seed(&r, (uint64_t)i);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < 3 * w; x++)
            f->data[y * f->stride_bytes + x] =
                (uint8_t)(rng_int(&r, 60) + (abs(x / 3 - 5 * i) < 12 && y > 10 ? 180 : 0));
    f->ordinal = i;
    return f;
}

/* The maps by definition: windows at 0, T, 2T, ...; the last one moved to end at the last frame; a short clip repeats. */
static void by_hand(struct model *m, int n, int w, int h, uint8_t maps[][100 * 80])
{
    struct err e;
    struct plan *p;
    static float in[MAX_FRAMES][3 * PX * PX], window[T * 3 * PX * PX], logits[T * PX * PX];
    const struct model_info *info = model_info(m);
    struct frame_in fi;
    struct map_out mo;
    assert_int_equal(plan_new(m, (struct plan_shape){T, PX, PX, true}, &p, &e), 0);
    assert_int_equal(frame_in_init(&fi, 3, w, h, PX, PX, info->mean, info->std, &e), 0);
    assert_int_equal(map_out_init(&mo, PX, PX, w, h, &e), 0);
    for (int i = 0; i < n; i++) {
        struct frame *f = picture(i, w, h);
        assert_int_equal(frame_in_run(&fi, f->data, f->stride_bytes, in[i], &e), 0);
        frame_unref(f);
    }
    for (int start = 0; start < n; start += T) {
        int first = start + T <= n || n < T ? start : n - T;
        for (int t = 0; t < T; t++)
            memcpy(window + (size_t)t * 3 * PX * PX, in[first + t < n ? first + t : n - 1], sizeof(in[0]));
        assert_int_equal(plan_run(p, window, logits, &e), 0);
        for (int t = 0; t < T && first + t < n; t++)
            assert_int_equal(map_out_run(&mo, logits + (size_t)t * PX * PX, maps[first + t], w, &e), 0);
    }
    map_out_fini(&mo);
    frame_in_fini(&fi);
    plan_free(p);
}

static void feed(struct detector *d, int n, int w, int h)
{
    struct err e;
    for (int i = 0; i < n; i++) {
        struct frame *f = picture(i, w, h);
        if (detector_push(d, f, &e))
            fail_msg("%s", e.msg);
        frame_unref(f);
    }
    if (detector_finish(d, &e))
        fail_msg("%s", e.msg);
}

static void test_windows(void **state)
{
    (void)state;
    struct err e;
    static const int lengths[] = {1, 3, 4, 5, 8, 10, 12, 15, 17, 24, 0, 2};
    static uint8_t want[MAX_FRAMES][100 * 80];
    struct model *m = open_tiny();
    struct result r = {.stop_at = -1};
    struct detector *d;
    assert_int_equal(detector_open(m, (struct detector_opts){.emit = collect, .arg = &r}, &d, &e), 0);
    for (size_t l = 0; l < sizeof(lengths) / sizeof(lengths[0]); l++) { /* one detector, clip after clip */
        int n = lengths[l], w = l % 2 ? 100 : 70, h = l % 2 ? 80 : 90, off = 0;
        feed(d, n, w, h);
        assert_int_equal(r.next, n);
        by_hand(m, n, w, h, want);
        for (int i = 0; i < n; i++)
            for (int k = 0; k < w * h; k++)
                off += abs(r.maps[i][k] - want[i][k]) > 1;
        if (off)
            fail_msg("%d frames: %d pixels differ", n, off);
        free_maps(&r);
    }
    detector_free(d);
    model_close(m);
}

static void test_detector_stops(void **state)
{
    (void)state;
    struct err e;
    struct model *m = open_tiny();
    struct result r = {.stop_at = 2};
    struct detector *d;
    int rc = 0;
    assert_int_equal(detector_open(m, (struct detector_opts){.emit = collect, .arg = &r}, &d, &e), 0);
    for (int i = 0; i < MAX_FRAMES && !rc; i++) {
        struct frame *f = picture(i, 70, 90);
        rc = detector_push(d, f, &e);
        frame_unref(f);
    }
    assert_int_equal(rc, ERR_CANCELED);
    assert_int_equal(detector_finish(d, &e), ERR_INVALID);
    assert_int_equal(r.next, 2);
    detector_free(d);
    struct detector_opts bad = {.emit = collect, .arg = &r, .size_px = 7};
    assert_int_equal(detector_open(m, bad, &d, &e), ERR_INVALID);
    free_maps(&r);
    model_close(m);
}

int main(void)
{
    par_init(2);
    tensor_set_threads(2);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),          cmocka_unit_test(test_newest_version_is_natural),
        cmocka_unit_test(test_bad_json),       cmocka_unit_test(test_windows),
        cmocka_unit_test(test_detector_stops),
    };
    return cmocka_run_group_tests(tests, make_model, drop_model);
}
