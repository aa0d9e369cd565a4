/* Zips of pictures and masks: which layouts are understood, and what is said about those that are not. */
#include "tests/unit/check.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/base/fs.h"
#include "core/media/zip.h"
#include "core/task/labelled.h"

enum { NAMES_MAX = 8 };

static char path[] = "/tmp/salient-labelled-XXXXXX";
static struct err err;

static int put(void *file, const void *data, size_t len, struct err *e)
{
    return fwrite(data, 1, len, file) == len ? 0 : err_set(e, ERR_IO, "cannot write");
}

/* A zip whose entries hold their own names. */
static void make(const char *const *names)
{
    FILE *f = fopen(path, "wb");
    struct zip_writer *z = zip_writer_new(put, f);
    for (; *names; names++)
        assert_int_equal(zip_add(z, *names, *names, strlen(*names), &err), 0);
    assert_int_equal(zip_finish(z, &err), 0);
    zip_writer_free(z);
    fclose(f);
}

/* "name: stem stem+ ..." of every sequence, + where there is a mask. */
static void describe(const struct labelled *l, char *out, size_t size)
{
    const struct labelled_sequence *s;
    const struct labelled_frame *f;
    size_t n = labelled_sequences(l, &s), at = 0;
    labelled_frames(l, &f);
    for (size_t i = 0; i < n; i++) {
        at += (size_t)snprintf(out + at, size - at, "%s%s:", i ? "; " : "", s[i].name);
        for (size_t k = s[i].first; k < s[i].first + s[i].n; k++)
            at += (size_t)snprintf(out + at, size - at, " %s%s", f[k].stem, f[k].mask == LABELLED_NONE ? "" : "+");
    }
}

static const struct layout {
    const char *names[NAMES_MAX], *want; /* the description, or what the error says */
    bool bad;
} layouts[] = {
    {{"JPEGImages/480p/bear/2.jpg", "JPEGImages/480p/bear/10.jpg", "Annotations/480p/bear/2.png"},
     "bear: 2+ 10",
     false},
    {{"DAVIS/JPEGImages/480p/b/0.jpg", "DAVIS/JPEGImages/480p/a/0.jpg", "DAVIS/Annotations/480p/a/0.png",
      "DAVIS/ImageSets/480p/val.txt"},
     "a: 0+; b: 0",
     false},
    {{"set/a/Imgs/0.png", "set/b/Imgs/0.png", "set/a/GT_object_level/0.png"}, "a: 0+; b: 0", false},
    {{"images/x.jpg", "images/y.png", "masks/x.png", "masks/y.png"}, ": x+ y+", false},
    {{"top/Images/x.jpg", "top/Masks/x.png", "top/readme.txt", "__MACOSX/top/Images/._x.jpg"}, ": x+", false},
    {{"images/s/t/0.jpg", "gt/s/t/0.jpg"}, "s/t: 0+", false},
    {{"a/0.jpg", "b/0.png"}, "no pictures and masks found", true},
    {{"images/0.jpg"}, "1 pictures, but no masks", true},
    {{"images/0.jpg", "masks/1.png"}, "mask masks/1.png has no picture", true},
    {{"images/0.jpg", "images/0.png", "masks/0.png"}, "two files for one frame: images/0.jpg and images/0.png", true},
    {{"images/480p/a/0.jpg", "images/1080p/a/0.jpg", "masks/a/0.png"}, "two files for one frame", true},
    {{"images/0.webp", "masks/0.png"}, "images/0.webp is not a PNG or JPEG", true},
};

static void layouts_are_understood_or_explained(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(layouts) / sizeof(layouts[0]); i++) {
        struct labelled *l;
        char got[500] = "";
        make(layouts[i].names);
        int rc = labelled_open(path, "the set", NULL, &l, &err);
        if (layouts[i].bad) {
            assert_true(rc < 0 && l == NULL);
            assert_non_null(strstr(err.msg, layouts[i].want));
            assert_non_null(strstr(err.msg, "the set"));
            continue;
        }
        assert_int_equal(rc, 0);
        describe(l, got, sizeof(got));
        assert_string_equal(got, layouts[i].want);
        labelled_close(l);
    }
}

static void entries_come_out_whole(void **state)
{
    static const char *const names[] = {"images/a/0.jpg", "masks/a/0.png", NULL};
    (void)state;
    struct labelled *l;
    const struct labelled_frame *f;
    struct buf b = BUF_INIT;
    char to[sizeof(path) + 8];
    snprintf(to, sizeof(to), "%s.out", path);
    make(names);
    assert_int_equal(labelled_open(path, "the set", NULL, &l, &err), 0);
    assert_int_equal(labelled_frames(l, &f), 1);
    assert_int_equal(labelled_masks(l), 1);
    assert_string_equal(labelled_extension(l, f[0].picture), ".jpg");
    assert_int_equal(labelled_extract(l, f[0].mask, to, &err), 0);
    assert_int_equal(fs_read(to, 100, &b, &err), 0);
    assert_string_equal(b.data, "masks/a/0.png");
    buf_free(&b);
    unlink(to);
    labelled_close(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(layouts_are_understood_or_explained),
        cmocka_unit_test(entries_come_out_whole),
    };
    close(mkstemp(path));
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(path);
    return failed;
}
