/* The trainer's parts that need no network: data sets, shots, batches made ahead, outline weights, the record of a run. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/base/fs.h"
#include "core/media/image.h"
#include "core/train/dataset.h"
#include "core/train/journal.h"
#include "core/train/loader.h"
#include "core/train/loss.h"
#include "core/train/sampler.h"

#define SIZE 48

static char root[64];

static int make_root(void **state)
{
    (void)state;
    strcpy(root, "/tmp/salient-train-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    return fs_remove_tree(root, NULL);
}

static const char *path(const char *name)
{
    static char out[8][512];
    static int next;
    char *p = out[next++ % 8];
    snprintf(p, sizeof(out[0]), "%s/%s", root, name);
    return p;
}

/* A picture of w x h; the object is the square [x0, x1)^2, brighter than the rest. channels 3 or 1 (its mask). */
static void write_square(const char *name, int w, int h, int x0, int x1, int channels)
{
    struct frame *f;
    char dir[512];
    snprintf(dir, sizeof(dir), "%s", path(name));
    *strrchr(dir, '/') = 0;
    assert_int_equal(fs_mkdirs(dir, NULL), 0);
    assert_int_equal(frame_new(channels == 3 ? FRAME_RGB24 : FRAME_GRAY8, w, h, &f, NULL), 0);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int c = 0; c < channels; c++) {
                int in = x >= x0 && x < x1 && y >= x0 && y < x1;
                f->data[y * f->stride_bytes + x * channels + c] =
                    (uint8_t)(channels == 1 ? 255 * in : (in ? 200 : 40) + (x * 7 + y * 3 + c) % 20);
            }
    assert_int_equal(image_write_png(path(name), f, NULL), 0);
    frame_unref(f);
}

static void write_photos(const char *dir, int n)
{
    char name[128];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%s/images/p%d.png", dir, i);
        write_square(name, 80, 60, 15 + i, 40, 3);
        snprintf(name, sizeof(name), "%s/masks/p%d.png", dir, i);
        write_square(name, 80, 60, 15 + i, 40, 1);
    }
}

static void write_clip(const char *dir, const char *seq, int n, int labelled_every)
{
    char name[128];
    for (int i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "%s/JPEGImages/480p/%s/%05d.png", dir, seq, i);
        write_square(name, 80, 60, 15 + i, 35 + i, 3);
        snprintf(name, sizeof(name), "%s/Annotations/480p/%s/%05d.png", dir, seq, i);
        if (i % labelled_every == 0)
            write_square(name, 80, 60, 15 + i, 35 + i, 1);
    }
}

static void open_set(struct dataset *d, const char *dir)
{
    struct err e = {0};
    assert_int_equal(dataset_init(d, 128, 1 << 20, &e), 0);
    if (dataset_add(d, path(dir), 1, &e))
        fail_msg("%s", e.msg);
}

static void test_layouts(void **state)
{
    (void)state;
    struct dataset d;
    struct err e = {0};
    write_photos("photos", 4);
    write_clip("davis", "one", 6, 2);
    write_clip("davis", "two", 4, 1);
    open_set(&d, "photos");
    assert_int_equal(dataset_add(&d, path("davis"), 0.5, &e), 0);
    assert_int_equal(d.n, 4 + 3 + 4);
    assert_int_equal(d.n_groups, 4 + 2);
    assert_false(d.groups[0].clip);
    assert_true(d.groups[4].clip);
    assert_int_equal(d.items[5].frame, 2); /* the ordinal among all frames, not among the labelled ones */
    assert_true(d.items[4].weight == 0.5);
    dataset_fini(&d);
}

static void test_provenance(void **state)
{
    (void)state;
    static const char labels[] =
        "{\"labels\":[{\"frame\":0,\"source\":\"manual\"},{\"frame\":\"p1\",\"source\":\"pseudo\",\"confidence\":0.25},"
        "{\"frame\":2,\"source\":\"rejected\"},{\"frame\":3,\"source\":\"pseudo\",\"state\":\"accepted\"}]}";
    static const char unknown[] = "[{\"frame\":0,\"source\":\"guess\"}]";
    struct dataset d;
    struct err e = {0};
    write_photos("project/clip", 5);
    assert_int_equal(fs_write_atomic(path("project/clip/labels.json"), labels, sizeof(labels) - 1, NULL), 0);
    open_set(&d, "project");
    assert_int_equal(d.n, 3);
    assert_true(d.items[0].weight == 1 && d.items[1].weight == 0.25 && d.items[2].weight == 1);
    assert_true(d.items[1].pseudo && !d.items[0].pseudo);
    dataset_fini(&d);
    assert_int_equal(fs_write_atomic(path("project/clip/labels.json"), unknown, sizeof(unknown) - 1, NULL), 0);
    assert_int_equal(dataset_init(&d, 128, 0, &e), 0);
    assert_int_equal(dataset_add(&d, path("project"), 1, &e), ERR_INVALID);
    dataset_fini(&d);
}

/* What `salient propagate` leaves: masks and labels.json beside a note of where the frames are. */
static void test_propagated(void **state)
{
    (void)state;
    static const char labels[] = "[{\"frame\":0,\"source\":\"manual\",\"confidence\":1},"
                                 "{\"frame\":1,\"source\":\"pseudo\",\"confidence\":0.5},"
                                 "{\"frame\":2,\"source\":\"uncovered\",\"confidence\":0,\"mask\":null}]";
    struct dataset d;
    struct err e = {0};
    char source[600];
    write_photos("film", 3);
    assert_int_equal(rename(path("film/masks"), path("labelled")), 0);
    assert_int_equal(fs_write_atomic(path("labelled/labels.json"), labels, sizeof(labels) - 1, NULL), 0);
    int n = snprintf(source, sizeof(source), "{\"frames\":\"%s\"}", path("film/images"));
    assert_int_equal(fs_write_atomic(path("labelled/source.json"), source, (size_t)n, NULL), 0);
    open_set(&d, "labelled");
    assert_int_equal(d.n, 2);
    assert_int_equal(d.n_groups, 1);
    assert_true(d.groups[0].clip && d.items[0].weight == 1 && d.items[1].weight == 0.5 && d.items[1].pseudo);
    assert_int_equal(dataset_check(&d, 8, &e), 0);
    dataset_fini(&d);
    assert_int_equal(fs_remove_tree(path("film"), NULL), 0);
    assert_int_equal(dataset_init(&d, 128, 0, &e), 0);
    assert_int_equal(dataset_add(&d, path("labelled"), 1, &e), ERR_NOTFOUND);
    assert_non_null(strstr(e.msg, "is gone"));
    dataset_fini(&d);
}

static void test_refusals(void **state)
{
    (void)state;
    struct dataset d;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(path("void"), NULL), 0);
    assert_int_equal(dataset_init(&d, 128, 0, &e), 0);
    assert_int_equal(dataset_add(&d, path("void"), 1, &e), ERR_NOTFOUND);
    assert_int_equal(dataset_add(&d, path("nowhere"), 1, &e), ERR_NOTFOUND);
    write_square("odd/images/a.png", 40, 40, 5, 20, 3);
    write_square("odd/masks/a.png", 41, 40, 5, 20, 1);
    assert_int_equal(dataset_add(&d, path("odd"), 1, &e), 0);
    assert_int_equal(dataset_check(&d, 10, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "41x40"));
    dataset_fini(&d);
    write_square("blank/images/a.png", 40, 40, 5, 20, 3);
    write_square("blank/masks/a.png", 40, 40, 0, 0, 1);
    open_set(&d, "blank");
    assert_int_equal(dataset_check(&d, 10, &e), ERR_INVALID);
    assert_non_null(strstr(e.msg, "foreground"));
    dataset_fini(&d);
}

static void test_split(void **state)
{
    (void)state;
    struct dataset d;
    write_clip("three", "a", 4, 1);
    write_clip("three", "b", 4, 1);
    write_clip("three", "c", 4, 1);
    open_set(&d, "three");
    assert_int_equal(dataset_split(&d, 0.3, 1, NULL), 0);
    assert_int_equal(dataset_count(&d, true), 4); /* one whole clip */
    for (size_t g = 0; g < d.n_groups; g++)
        for (size_t i = 1; i < d.groups[g].n; i++)
            assert_int_equal(d.items[d.groups[g].first].held_out, d.items[d.groups[g].first + i].held_out);
    uint64_t before = dataset_fingerprint(&d);
    assert_int_equal(dataset_split(&d, 0, 1, NULL), 0);
    assert_int_equal(dataset_count(&d, true), 0);
    assert_true(dataset_fingerprint(&d) != before);
    assert_int_equal(dataset_split(&d, 1.5, 1, NULL), ERR_INVALID);
    dataset_fini(&d);
}

static struct batch batch_new(int frames)
{
    size_t n = (size_t)frames * SIZE * SIZE;
    return (struct batch){.input = calloc(3 * n, sizeof(float)),
                          .target = calloc(n, sizeof(float)),
                          .weight = calloc(n, sizeof(float)),
                          .sample_weight = calloc((size_t)frames, sizeof(float))};
}

static void batch_free(struct batch *b)
{
    free(b->input);
    free(b->target);
    free(b->weight);
    free(b->sample_weight);
}

static double sum(const float *v, size_t n)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += v[i];
    return s;
}

/* Equal numbers give equal samples in any order; others differ; the object stays in view; a plain one is the photo itself. */
static void test_samples(void **state)
{
    (void)state;
    struct dataset d;
    struct sampler *s;
    struct batch a = batch_new(4), b = batch_new(4);
    size_t plane = (size_t)SIZE * SIZE;
    write_photos("photos", 4);
    open_set(&d, "photos");
    struct sampler_opts o = {
        .kind = SAMPLER_CLIPS,
        .shape = {2, 4, 3, SIZE},
        .loss = LOSS_STRUCTURE,
        .std = {1, 1, 1},
        .seed = 5,
        .shot = {
            .composite = 0.5, .bend = 1, .speed = 1, .occluder = 0.5, .motion_blur = 0.5, .colour = 1, .crop = true}};
    assert_int_equal(sampler_new(&d, &o, &s, NULL), 0);
    assert_int_equal(sampler_make(s, 9, &a, NULL), 0);
    assert_int_equal(sampler_make(s, 3, &b, NULL), 0);
    assert_memory_not_equal(a.input, b.input, 12 * plane * sizeof(float));
    assert_int_equal(sampler_make(s, 9, &b, NULL), 0);
    assert_memory_equal(a.input, b.input, 12 * plane * sizeof(float));
    assert_memory_equal(a.target, b.target, 4 * plane * sizeof(float));
    assert_memory_not_equal(a.input, a.input + 3 * plane, 3 * plane * sizeof(float)); /* something moves */
    assert_true(sum(a.target, plane) > 0);
    sampler_free(s);
    o = (struct sampler_opts){
        .kind = SAMPLER_STILLS, .shape = {1, 1, 3, SIZE}, .std = {1, 1, 1}, .plain = true, .in_order = true};
    assert_int_equal(sampler_new(&d, &o, &s, NULL), 0);
    assert_int_equal(sampler_make(s, 0, &a, NULL), 0);
    double share = sum(a.target, plane) / (double)plane;
    assert_true(share > 0.125 && share < 0.135); /* 25 x 25 of 80 x 60 */
    sampler_free(s);
    batch_free(&a);
    batch_free(&b);
    dataset_fini(&d);
}

static int number_sample(void *arg, uint64_t index, const struct batch *at, struct err *e)
{
    if (arg && index == 40)
        return err_set(e, ERR_CORRUPT, "sample 40 is bad");
    usleep((useconds_t)(index * 7919 % 400));
    at->input[0] = (float)index;
    return 0;
}

/* Seen from twice as far, a reflecting picture has mirror images around it, mask and all; a plain one has no mask there. */
static void test_reflection(void **state)
{
    (void)state;
    static float rgb[3 * SIZE * SIZE], mask[SIZE * SIZE];
    struct picture *p = picture_new(SIZE, SIZE);
    assert_non_null(p);
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++) {
            p->mask[y * SIZE + x] = x < 6 ? 255 : 0;
            memset(p->rgb + (y * SIZE + x) * 3, x < 6 ? 200 : 50, 3);
        }
    struct pose far = pose_whole(p);
    far.px_per_unit *= 2;
    for (int reflect = 0; reflect < 2; reflect++) {
        far.reflect = reflect;
        warp_draw(p, &far, SIZE, rgb, mask, NULL);
        const float *row = mask + SIZE / 2 * SIZE, *grey = rgb + SIZE / 2 * SIZE;
        assert_true(row[SIZE / 4 + 1] > 0.99F && grey[SIZE / 4 + 1] > 0.7F); /* the strip itself, 3 px wide now */
        assert_true(row[SIZE / 2] < 0.01F && grey[SIZE / 2] < 0.3F);
        assert_true(reflect ? row[SIZE / 4 - 2] > 0.99F : row[SIZE / 4 - 2] < 0.01F);
        assert_true(row[2] < 0.01F && (reflect ? grey[2] < 0.3F : grey[2] > 0.7F)); /* a plain border is smeared */
    }
    picture_free(p);
}

static void test_loader(void **state)
{
    (void)state;
    struct batch_shape shape = {.samples = 2, .frames = 1, .channels = 1, .size = 1};
    struct loader *l;
    const struct batch *b;
    struct err e = {0};
    assert_int_equal(loader_new(shape, number_sample, NULL, 3, 2, 10, &l, &e), 0);
    for (int i = 10; i < 60; i++) {
        assert_int_equal(loader_next(l, &b, &e), 0);
        assert_true(b->input[0] == (float)(2 * i) && b->input[1] == (float)(2 * i + 1));
    }
    loader_free(l);
    assert_int_equal(loader_new(shape, number_sample, &shape, 2, 2, 15, &l, &e), 0);
    int rc = 0;
    for (int i = 0; i < 10 && !rc; i++)
        rc = loader_next(l, &b, &e);
    assert_int_equal(rc, ERR_CORRUPT);
    assert_string_equal(e.msg, "sample 40 is bad");
    loader_free(l);
}

static void test_outline_weights(void **state)
{
    (void)state;
    static float mask[SIZE * SIZE], weight[SIZE * SIZE], scratch[2 * SIZE * SIZE];
    for (int y = 0; y < SIZE; y++)
        for (int x = 0; x < SIZE; x++)
            mask[y * SIZE + x] = x >= SIZE / 2;
    loss_weights(LOSS_STRUCTURE, mask, SIZE, weight, scratch);
    assert_true(weight[SIZE * 5 + SIZE / 2] > 2 * weight[SIZE * 5 + 2]);
    double mean = sum(weight, (size_t)SIZE * SIZE) / (SIZE * SIZE);
    assert_true(mean > 0.999 && mean < 1.001);
    loss_weights(LOSS_BCE, mask, SIZE, weight, scratch);
    assert_true(weight[SIZE / 2] == 1 && weight[0] == 1);
}

/* Reads scalars out of an event file, checking record lengths; the CRC of the first record is a known value's. */
static void test_journal(void **state)
{
    (void)state;
    struct journal *j;
    struct buf text = BUF_INIT;
    struct fs_list files;
    const char *line;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(path("run"), NULL), 0);
    assert_int_equal(journal_open(path("run"), -1, &j, &e), 0);
    for (int epoch = 1; epoch <= 3; epoch++) {
        const struct journal_value v[] = {{"loss", 0.5 / epoch}, {"odd", 0.0 / 0.0}};
        assert_int_equal(journal_write(j, epoch, epoch * 10, v, 2, &line, &e), 0);
        assert_non_null(strstr(line, "\"odd\":null"));
    }
    journal_close(j);
    assert_int_equal(journal_open(path("run"), 2, &j, &e), 0); /* resumed after epoch 2 */
    journal_close(j);
    assert_int_equal(fs_read(path("run/log.jsonl"), 1 << 20, &text, &e), 0);
    int lines = 0;
    for (size_t i = 0; i < text.len; i++)
        lines += text.data[i] == '\n';
    assert_int_equal(lines, 2);
    assert_int_equal(fs_list(path("run"), &files, &e), 0);
    assert_true(files.n >= 2 && strncmp(files.names[0], "events.out.tfevents.", 20) == 0);
    char name[128];
    snprintf(name, sizeof(name), "run/%s", files.names[0]);
    buf_reset(&text);
    assert_int_equal(fs_read(path(name), 1 << 20, &text, &e), 0);
    size_t at = 0, records = 0;
    while (at < text.len) {
        uint64_t len;
        memcpy(&len, text.data + at, 8);
        at += 16 + len;
        records++;
    }
    assert_int_equal(at, text.len);
    assert_true(records >= 1 + 6); /* the version, then two scalars an epoch */
    buf_free(&text);
    fs_list_free(&files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layouts),    cmocka_unit_test(test_provenance), cmocka_unit_test(test_propagated),
        cmocka_unit_test(test_refusals),   cmocka_unit_test(test_split),      cmocka_unit_test(test_samples),
        cmocka_unit_test(test_loader),     cmocka_unit_test(test_journal),    cmocka_unit_test(test_outline_weights),
        cmocka_unit_test(test_reflection),
    };
    return cmocka_run_group_tests(tests, make_root, remove_root);
}
