/* core/media/zip and zips as clips: what we write others read, order, names, windows, and bombs. */
#include "tests/unit/media/media_fixture.h"

#include <fcntl.h>

#include <archive.h>
#include <archive_entry.h>

#include "core/base/buf.h"
#include "core/media/zip.h"

static int to_buf(void *arg, const void *data, size_t len, struct err *e)
{
    (void)e;
    buf_append(arg, data, len);
    return 0;
}

static int refuse(void *arg, const void *data, size_t len, struct err *e)
{
    (void)arg, (void)data, (void)len;
    return err_set(e, ERR_FULL, "no room");
}

/* Zeros become holes, so an archive over 4 GiB costs no disk. */
static int to_sparse_file(void *arg, const void *data, size_t len, struct err *e)
{
    int fd = *(int *)arg;
    const char *p = data;
    bool zeros = len > 4096 && p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
    if (zeros ? lseek(fd, (off_t)len, SEEK_CUR) < 0 : write(fd, data, len) != (ssize_t)len)
        return err_errno(e, "write");
    return 0;
}

/* Lists an archive through libarchive; checks contents of small entries are their own name. */
static int64_t list(struct archive *a, bool check_content, int64_t *total)
{
    struct archive_entry *entry;
    int64_t n = 0;
    int rc;
    *total = 0;
    while ((rc = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
        char text[64] = "";
        *total += archive_entry_size(entry);
        if (check_content) {
            la_ssize_t got = archive_read_data(a, text, sizeof(text) - 1);
            assert_true(got >= 0);
            assert_string_equal(text, archive_entry_pathname(entry));
        }
        n++;
    }
    assert_int_equal(rc, ARCHIVE_EOF);
    return n;
}

static struct archive *open_memory(const struct buf *b)
{
    struct archive *a = archive_read_new();
    archive_read_support_format_zip_seekable(a);
    assert_int_equal(archive_read_open_memory(a, b->data, b->len), ARCHIVE_OK);
    return a;
}

static void what_is_written_is_read_by_others(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct err e = {0};
    int64_t total, expect = zip_end_bytes();
    struct zip_writer *z = zip_writer_new(to_buf, &b);
    char name[32];
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof(name), "maps/%05d.png", i);
        assert_int_equal(zip_add(z, name, name, strlen(name), &e), 0);
        expect += zip_entry_bytes(name, (int64_t)strlen(name));
    }
    assert_int_equal(zip_finish(z, &e), 0);
    assert_int_equal(b.len, expect);
    assert_int_equal(zip_bytes(z), expect);
    zip_writer_free(z);
    struct archive *a = open_memory(&b);
    assert_int_equal(list(a, true, &total), 100);
    archive_read_free(a);
    buf_free(&b);
}

static void streamed_entries_are_read_by_others(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct err e = {0};
    int64_t total;
    struct zip_writer *z = zip_writer_new(to_buf, &b);
    assert_int_equal(zip_begin(z, "streamed", &e), 0);
    assert_int_equal(zip_data(z, "stre", 4, &e), 0);
    assert_int_equal(zip_data(z, "amed", 4, &e), 0);
    assert_int_equal(zip_end(z, &e), 0);
    assert_int_equal(zip_add(z, "whole", "whole", 5, &e), 0);
    assert_int_equal(zip_finish(z, &e), 0);
    zip_writer_free(z);
    struct archive *a = open_memory(&b);
    assert_int_equal(list(a, true, &total), 2);
    assert_int_equal(total, 13);
    archive_read_free(a);
    buf_free(&b);
}

static void more_entries_than_16_bits_count(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct err e = {0};
    int64_t total;
    struct zip_writer *z = zip_writer_new(to_buf, &b);
    char name[32];
    for (int i = 0; i < 66000; i++) {
        snprintf(name, sizeof(name), "%d", i);
        assert_int_equal(zip_add(z, name, "", 0, &e), 0);
    }
    assert_int_equal(zip_finish(z, &e), 0);
    zip_writer_free(z);
    struct archive *a = open_memory(&b);
    assert_int_equal(list(a, false, &total), 66000);
    archive_read_free(a);
    buf_free(&b);
}

static void archives_over_4_gib_are_read_by_others(void **state)
{
    (void)state;
    int fd = open(tmp("big.zip"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    struct zip_writer *z = zip_writer_new(to_sparse_file, &fd);
    struct err e = {0};
    int64_t total;
    size_t piece = (size_t)64 << 20;
    char *zeros = calloc(1, piece);
    assert_int_equal(zip_begin(z, "big", &e), 0);
    for (int i = 0; i < 65; i++)
        assert_int_equal(zip_data(z, zeros, piece, &e), 0);
    assert_int_equal(zip_end(z, &e), 0);
    assert_int_equal(zip_add(z, "after", "after", 5, &e), 0);
    assert_int_equal(zip_finish(z, &e), 0);
    zip_writer_free(z);
    free(zeros);
    struct archive *a = archive_read_new();
    archive_read_support_format_zip_seekable(a);
    assert_int_equal(archive_read_open_filename(a, tmp("big.zip"), 1 << 16), ARCHIVE_OK);
    assert_int_equal(list(a, false, &total), 2);
    assert_int_equal(total, ((int64_t)65 << 26) + 5);
    archive_read_free(a);
    close(fd);
    unlink(tmp("big.zip"));
}

static void bad_names_and_failed_writes_stop(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct err e = {0};
    static const char *const bad[] = {"", "/x", "../x", "a/../b", "a\\b", ".."};
    struct zip_writer *z = zip_writer_new(to_buf, &b);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(zip_add(z, bad[i], "", 0, &e), ERR_INVALID);
    assert_int_equal(b.len, 0);
    zip_writer_free(z);
    z = zip_writer_new(refuse, NULL);
    assert_int_equal(zip_add(z, "x", "", 0, &e), ERR_FULL);
    assert_int_equal(zip_finish(z, &e), ERR_IO);
    zip_writer_free(z);
    buf_free(&b);
}

/* ---- zips as clips */

struct item {
    const char *name;
    int value; /* grey value of a 20 x 10 PNG; -1: the entry is plain text */
};

static void write_zip(const char *path, const struct item *items, size_t n, bool deflate)
{
    struct archive *a = archive_write_new();
    archive_write_set_format_zip(a);
    archive_write_set_options(a, deflate ? "zip:compression=deflate" : "zip:compression=store");
    assert_int_equal(archive_write_open_filename(a, path), ARCHIVE_OK);
    for (size_t i = 0; i < n; i++) {
        struct buf b = BUF_INIT;
        struct frame *f;
        assert_int_equal(frame_new(FRAME_GRAY8, 20, 10, &f, NULL), 0);
        memset(f->data, items[i].value, (size_t)f->stride_bytes * 10);
        if (items[i].value < 0)
            buf_puts(&b, "text");
        else
            assert_int_equal(image_encode_png(f, IMAGE_PNG_FAST, &b, NULL), 0);
        frame_unref(f);
        struct archive_entry *entry = archive_entry_new();
        archive_entry_set_pathname(entry, items[i].name);
        archive_entry_set_filetype(entry, AE_IFREG);
        archive_entry_set_perm(entry, 0644);
        archive_entry_set_size(entry, (la_int64_t)b.len);
        assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
        assert_int_equal(archive_write_data(a, b.data, b.len), b.len);
        archive_entry_free(entry);
        buf_free(&b);
    }
    assert_int_equal(archive_write_close(a), ARCHIVE_OK);
    archive_write_free(a);
}

static void frames_come_in_natural_order_under_safe_names(void **state)
{
    (void)state;
    static const struct item items[] = {
        {"clip/10.png", 100}, {"clip/readme.txt", -1},  {"clip/2.png", 20},   {"__MACOSX/clip/._2.png", -1},
        {"clip/1.png", 10},   {"clip/.hidden.png", -1}, {"clip/b/1.PNG", 200}};
    static const struct {
        const char *name;
        int value;
    } expect[] = {{"1", 10}, {"2", 20}, {"10", 100}, {"b/1", 200}};
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    for (int deflate = 0; deflate < 2; deflate++) {
        write_zip(tmp("a.zip"), items, sizeof(items) / sizeof(items[0]), deflate);
        assert_int_equal(clip_open(tmp("a.zip"), NULL, &c, &e), 0);
        assert_int_equal(clip_info(c)->kind, CLIP_ZIP);
        assert_int_equal(clip_info(c)->frames, 4);
        assert_true(clip_info(c)->frames_exact);
        for (int i = 0; i < 4; i++) {
            assert_int_equal(clip_next(c, &f, &e), 1);
            assert_int_equal(f->ordinal, i);
            assert_int_equal(f->data[0], expect[i].value);
            assert_string_equal(clip_frame_name(c, i), expect[i].name);
            frame_unref(f);
        }
        assert_int_equal(clip_next(c, &f, &e), 0);
        assert_int_equal(clip_seek_frame(c, 1, &f, &e), 1);
        assert_int_equal(f->data[0], 20);
        frame_unref(f);
        assert_int_equal(clip_seek_frame(c, 4, &f, &e), ERR_NOTFOUND);
        clip_close(c);
    }
}

static void shuffled_archives_larger_than_a_window_are_read(void **state)
{
    (void)state;
    enum { N = 200 };
    static struct item items[N];
    static char names[N][16];
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    for (int i = 0; i < N; i++) {
        int k = i * 77 % N;
        snprintf(names[i], sizeof(names[i]), "%d.png", k);
        items[i] = (struct item){names[i], k};
    }
    write_zip(tmp("shuffled.zip"), items, N, true);
    assert_int_equal(clip_open(tmp("shuffled.zip"), NULL, &c, &e), 0);
    for (int i = 0; i < N; i++) {
        assert_int_equal(clip_next(c, &f, &e), 1);
        assert_int_equal(f->data[0], i);
        frame_unref(f);
    }
    clip_close(c);
}

static void names_that_collide_keep_their_extension(void **state)
{
    (void)state;
    static const struct item items[] = {
        {"1.png", 1}, {"1.bmp.png", 2}, {"2.png", 3}, {"2.jpg", 4}, {"bad\x01\xff.png", 5}};
    struct clip *c;
    struct err e = {0};
    write_zip(tmp("names.zip"), items, 5, false);
    assert_int_equal(clip_open(tmp("names.zip"), NULL, &c, &e), 0);
    assert_string_equal(clip_frame_name(c, 0), "1.bmp");
    assert_string_equal(clip_frame_name(c, 1), "1");
    assert_string_equal(clip_frame_name(c, 2), "2.jpg");
    assert_string_equal(clip_frame_name(c, 3), "2.png");
    assert_string_equal(clip_frame_name(c, 4), "bad__");
    assert_null(clip_frame_name(c, 5));
    clip_close(c);
}

static int open_code(const char *path, const struct clip_limits *limits)
{
    struct clip *c = NULL;
    struct err e = {0};
    struct frame *f;
    int rc = clip_open(path, limits, &c, &e);
    while (c && (rc = clip_next(c, &f, &e)) > 0)
        frame_unref(f);
    clip_close(c);
    assert_true(rc == 0 || e.msg[0]);
    return rc;
}

static void hostile_archives_are_refused(void **state)
{
    (void)state;
    static const struct item up[] = {{"../../etc/x.png", 1}}, absolute[] = {{"/etc/x.png", 1}},
                             twice[] = {{"a.png", 1}, {"a.png", 2}}, text[] = {{"a.txt", -1}},
                             lying[] = {{"a.png", -1}};
    write_zip(tmp("up.zip"), up, 1, false);
    assert_int_equal(open_code(tmp("up.zip"), NULL), ERR_INVALID);
    write_zip(tmp("abs.zip"), absolute, 1, false);
    assert_int_equal(open_code(tmp("abs.zip"), NULL), ERR_INVALID);
    write_zip(tmp("twice.zip"), twice, 2, false);
    assert_int_equal(open_code(tmp("twice.zip"), NULL), ERR_INVALID);
    write_zip(tmp("text.zip"), text, 1, false);
    assert_int_equal(open_code(tmp("text.zip"), NULL), ERR_UNSUPPORTED);
    write_zip(tmp("lying.zip"), lying, 1, false);
    assert_int_equal(open_code(tmp("lying.zip"), NULL), ERR_UNSUPPORTED);
    assert_int_equal(fs_write_atomic(tmp("empty.zip"), "PK\5\6\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 22, NULL), 0);
    assert_true(open_code(tmp("empty.zip"), NULL) < 0);
}

static void bombs_hit_their_limits(void **state)
{
    (void)state;
    static const struct item items[] = {{"1.png", 1}, {"2.png", 2}, {"3.png", 3}};
    write_zip(tmp("three.zip"), items, 3, true);
    assert_int_equal(open_code(tmp("three.zip"), NULL), 0);
    assert_int_equal(open_code(tmp("three.zip"), &(struct clip_limits){.max_frames = 2}), ERR_LIMIT);
    assert_int_equal(open_code(tmp("three.zip"), &(struct clip_limits){.max_unpacked_bytes = 100}), ERR_LIMIT);
    assert_int_equal(open_code(tmp("three.zip"), &(struct clip_limits){.max_bytes = 100}), ERR_LIMIT);
    assert_int_equal(open_code(tmp("three.zip"), &(struct clip_limits){.max_pixels = 199}), ERR_LIMIT);
    /* 300 MB of zeros in 300 kB */
    struct archive *a = archive_write_new();
    struct archive_entry *entry = archive_entry_new();
    archive_write_set_format_zip(a);
    assert_int_equal(archive_write_open_filename(a, tmp("bomb.zip")), ARCHIVE_OK);
    archive_entry_set_pathname(entry, "bomb.png");
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_size(entry, (la_int64_t)300 << 20);
    assert_int_equal(archive_write_header(a, entry), ARCHIVE_OK);
    char *zeros = calloc(1, 1 << 20);
    for (int i = 0; i < 300; i++)
        assert_int_equal(archive_write_data(a, zeros, 1 << 20), 1 << 20);
    free(zeros);
    archive_entry_free(entry);
    archive_write_close(a);
    archive_write_free(a);
    assert_int_equal(open_code(tmp("bomb.zip"), NULL), ERR_LIMIT);
}

static void damaged_archives_never_hurt(void **state)
{
    (void)state;
    static const struct item items[] = {{"1.png", 1}, {"2.png", 2}, {"3.png", 3}};
    struct buf b = BUF_INIT;
    uint32_t x = 3;
    int fds = open_fds();
    write_zip(tmp("base.zip"), items, 3, true);
    assert_int_equal(fs_read(tmp("base.zip"), 1 << 20, &b, NULL), 0);
    for (int i = 0; i < 600; i++) {
        x = x * 1664525 + 1013904223;
        size_t at = (x >> 8) % b.len, len = i % 3 ? b.len : at + 1;
        char was = b.data[at];
        b.data[at] = (char)(was ^ (1 << (x >> 29)));
        FILE *f = fopen(tmp("damaged.zip"), "wb");
        assert_int_equal(fwrite(b.data, 1, len, f), len);
        fclose(f);
        open_code(tmp("damaged.zip"), NULL);
        b.data[at] = was;
    }
    assert_int_equal(open_fds(), fds);
    buf_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_by_others),
        cmocka_unit_test(streamed_entries_are_read_by_others),
        cmocka_unit_test(more_entries_than_16_bits_count),
        cmocka_unit_test(archives_over_4_gib_are_read_by_others),
        cmocka_unit_test(bad_names_and_failed_writes_stop),
        cmocka_unit_test(frames_come_in_natural_order_under_safe_names),
        cmocka_unit_test(shuffled_archives_larger_than_a_window_are_read),
        cmocka_unit_test(names_that_collide_keep_their_extension),
        cmocka_unit_test(hostile_archives_are_refused),
        cmocka_unit_test(bombs_hit_their_limits),
        cmocka_unit_test(damaged_archives_never_hurt),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
