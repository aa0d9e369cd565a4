/* core/media/clip: every container counts its pictures right, seeks exactly, turns upright, keeps its limits; damage is an error. */
#include "tests/unit/media/media_fixture.h"

#include <math.h>
#include <fcntl.h>

#include "core/base/clock.h"
#include "core/media/overlay.h"

#define N 50

/* What the k-th numbered picture looks like (see NUMBERED): limited-range grey to RGB. */
static double expected_mean(int k)
{
    return ((k * 4 % 200) + 16 + 1 - 16) * 255.0 / 219;
}

static void count_and_remember(const char *name, int count, uint64_t *hashes)
{
    struct clip *c = NULL;
    struct frame *f;
    struct err e = {0};
    int64_t last_ms = -1;
    int n = 0, rc;
    if (clip_open(tmp(name), NULL, &c, &e) != 0)
        fail_msg("%s", e.msg);
    while ((rc = clip_next(c, &f, &e)) > 0) {
        assert_int_equal(f->ordinal, n);
        assert_true(n < count);
        if (fabs(mean_of(f) - expected_mean(n)) > 6)
            fail_msg("%s: picture %d has mean %.1f, not %.1f", name, n, mean_of(f), expected_mean(n));
        if (f->pts_ms <= last_ms)
            fail_msg("%s: picture %d at %d ms, after %d ms", name, n, (int)f->pts_ms, (int)last_ms);
        last_ms = f->pts_ms;
        hashes[n++] = hash_of(f);
        frame_unref(f);
    }
    if (rc < 0)
        fail_msg("%s", e.msg);
    assert_int_equal(n, count);
    assert_int_equal(clip_info(c)->frames, count);
    assert_true(clip_info(c)->frames_exact);
    clip_close(c);
}

static void seek_everywhere(const char *name, int count, const uint64_t *hashes, bool read_first)
{
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    uint32_t x = 11;
    assert_int_equal(clip_open(tmp(name), NULL, &c, &e), 0);
    while (read_first && clip_next(c, &f, &e) > 0)
        frame_unref(f);
    for (int i = 0; i < 24; i++) {
        x = x * 1664525 + 1013904223;
        int k = i == 0 ? 0 : i == 1 ? count - 1 : (int)((x >> 8) % (uint32_t)count);
        if (clip_seek_frame(c, k, &f, &e) != 1)
            fail_msg("%s: seek to %d: %s", name, k, e.msg);
        assert_int_equal(f->ordinal, k);
        if (hash_of(f) != hashes[k])
            fail_msg("%s: seek to %d gave another picture", name, k);
        frame_unref(f);
        if (k + 1 < count) {
            assert_int_equal(clip_next(c, &f, &e), 1);
            assert_int_equal(f->ordinal, k + 1);
            assert_true(hash_of(f) == hashes[k + 1]);
            frame_unref(f);
        }
    }
    assert_int_equal(clip_seek_frame(c, count, &f, &e), ERR_NOTFOUND);
    assert_int_equal(clip_seek_frame(c, -1, &f, &e), ERR_NOTFOUND);
    assert_int_equal(clip_seek_frame(c, 3, &f, &e), 1);
    frame_unref(f);
    clip_close(c);
}

static void every_container_counts_and_seeks_exactly(void **state)
{
    (void)state;
    static const struct {
        const char *file, *args;
    } clips[] = {
        {"h264.mp4", "-c:v libx264 -g 12 -bf 3 -pix_fmt yuv420p"},
        {"open.mp4", "-c:v libx264 -g 12 -bf 3 -x264-params open-gop=1 -pix_fmt yuv420p"},
        {"hevc.mov", "-c:v libx265 -x265-params log-level=none:keyint=12 -tag:v hvc1 -pix_fmt yuv420p10le"},
        {"vp9.webm", "-c:v libvpx-vp9 -cpu-used 8 -g 20"},
        {"vp8.webm", "-c:v libvpx -cpu-used 8 -g 20 -auto-alt-ref 1"},
        {"mpeg4.avi", "-c:v mpeg4 -q:v 2 -g 12 -bf 2"},
        {"mjpeg.avi", "-c:v mjpeg -q:v 2"},
        {"raw.mjpeg", "-c:v mjpeg -q:v 2 -f mjpeg"},
        {"ffv1.mkv", "-c:v ffv1 -pix_fmt yuv420p10le"},
        {"prores.mov", "-c:v prores_ks -profile:v 3"},
        {"mpeg2.ts", "-c:v mpeg2video -q:v 2 -g 12 -bf 2"},
        {"anim.gif", ""},
        {"anim.png", "-f apng -plays 0"},
    };
    uint64_t hashes[N];
    for (size_t i = 0; i < sizeof(clips) / sizeof(clips[0]); i++) {
        char args[1024];
        snprintf(args, sizeof(args), "%s %s %s", NUMBERED("64x48", 50), clips[i].args, clips[i].file);
        if (!ffmpeg(args))
            continue;
        count_and_remember(clips[i].file, N, hashes);
        seek_everywhere(clips[i].file, N, hashes, false);
        seek_everywhere(clips[i].file, N, hashes, true);
    }
}

static void one_picture(const char *name, struct frame **f, struct clip_info *info)
{
    struct clip *c;
    struct err e = {0};
    if (clip_open(tmp(name), NULL, &c, &e) != 0)
        fail_msg("%s: %s", name, e.msg);
    assert_int_equal(clip_next(c, f, &e), 1);
    *info = *clip_info(c);
    clip_close(c);
}

static int red_at(const struct frame *f, double x, double y)
{
    return f->data[(size_t)(y * f->height_px) * (size_t)f->stride_bytes + (size_t)(x * f->width_px) * 3];
}

static void rotation_is_applied(void **state)
{
    (void)state;
    /* Bright left half, rotated so that a player shows it elsewhere. */
    static const struct {
        const char *args, *file;
        double x, y;
    } turned[] = {{"-metadata:s:v rotate=90", "r90.mp4", 0.5, 0.9},
                  {"-metadata:s:v rotate=180", "r180.mp4", 0.9, 0.5},
                  {"-metadata:s:v rotate=270", "r270.mp4", 0.5, 0.1}};
    if (!ffmpeg(
            "-f lavfi -i color=black:s=96x64,drawbox=w=iw/2:color=white:t=fill -frames:v 3 -pix_fmt yuv420p flat.mp4"))
        return;
    for (int i = 0; i < 3; i++) {
        char args[256];
        struct frame *f;
        struct clip_info info;
        snprintf(args, sizeof(args), "-i flat.mp4 -c copy %s %s", turned[i].args, turned[i].file);
        if (!ffmpeg(args))
            return;
        one_picture(turned[i].file, &f, &info);
        assert_int_equal(f->width_px, i == 1 ? 96 : 64);
        assert_int_equal(info.height_px, i == 1 ? 64 : 96);
        assert_true(red_at(f, turned[i].x, turned[i].y) > 200);
        assert_true(red_at(f, 0.99 - turned[i].x, 0.99 - turned[i].y) < 50);
        frame_unref(f);
    }
}

static void colours_follow_range_and_matrix(void **state)
{
    (void)state;
    static const struct {
        const char *file, *args;
    } kinds[] = {
        {"601.mkv",
         "-vf scale=out_color_matrix=bt601:out_range=tv,format=yuv444p -colorspace smpte170m -color_range tv"},
        {"709.mkv", "-vf scale=out_color_matrix=bt709:out_range=tv,format=yuv444p -colorspace bt709 -color_range tv"},
        {"full.mkv",
         "-vf scale=out_color_matrix=bt601:out_range=pc,format=yuv420p -colorspace smpte170m -color_range pc"},
        {"709ten.mkv",
         "-vf scale=out_color_matrix=bt709:out_range=tv,format=yuv420p10le -colorspace bt709 -color_range tv"},
        {"rgb.mkv", "-pix_fmt gbrp"},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char args[512];
        struct frame *f;
        struct clip_info info;
        snprintf(args, sizeof(args), "-f lavfi -i color=0xc86432:s=32x32,format=gbrp -frames:v 2 %s -c:v ffv1 %s",
                 kinds[i].args, kinds[i].file);
        if (!ffmpeg(args))
            continue;
        one_picture(kinds[i].file, &f, &info);
        const uint8_t *p = f->data + 16 * f->stride_bytes + 16 * 3;
        if (abs(p[0] - 200) > 3 || abs(p[1] - 100) > 3 || abs(p[2] - 50) > 3)
            fail_msg("%s: %d %d %d", kinds[i].file, p[0], p[1], p[2]);
        frame_unref(f);
    }
}

static void odd_sizes_alpha_and_stills(void **state)
{
    (void)state;
    static const struct {
        const char *file, *args;
        int w, h, value;
    } kinds[] = {
        {"odd.mkv",
         "-f lavfi -i color=0x646464:s=120x90 -vf format=gbrp,crop=97:61:exact=1,format=yuv420p -frames:v 2 -c:v ffv1",
         97, 61, 100},
        {"one.mkv",
         "-f lavfi -i color=0x646464:s=120x90 -vf format=gbrp,crop=1:1:exact=1,format=yuv444p -frames:v 2 -c:v ffv1", 1,
         1, 100},
        {"alpha.mov", "-f lavfi -i color=0xc8c8c8@0.5:s=64x64,format=rgba -frames:v 2 -c:v qtrle -pix_fmt argb", 64, 64,
         100},
        {"alpha.png", "-f lavfi -i color=0xc8c8c8@0.5:s=64x64,format=rgba -frames:v 1", 64, 64, 100},
        {"deep.png", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=65:33:exact=1 -frames:v 1 -pix_fmt rgb48be",
         65, 33, 100},
        {"still.bmp", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=65:33:exact=1 -frames:v 1", 65, 33, 100},
        {"still.tiff", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=65:33:exact=1 -frames:v 1", 65, 33, 100},
        {"still.ppm", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=5:3:exact=1 -frames:v 1", 5, 3, 100},
        {"still.webp", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=65:33:exact=1 -frames:v 1", 65, 33, 100},
        {"still.jpg", "-f lavfi -i color=0x646464:s=120x90,format=gbrp,crop=65:33:exact=1 -frames:v 1 -q:v 2", 65, 33,
         100},
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        char args[512];
        struct frame *f;
        struct clip_info info;
        snprintf(args, sizeof(args), "%s %s", kinds[i].args, kinds[i].file);
        if (!ffmpeg(args))
            continue;
        one_picture(kinds[i].file, &f, &info);
        assert_int_equal(f->width_px, kinds[i].w);
        assert_int_equal(f->height_px, kinds[i].h);
        assert_int_equal(info.kind, strstr(kinds[i].args, "v 1") ? CLIP_IMAGE : CLIP_VIDEO);
        if (fabs(mean_of(f) - kinds[i].value) > 3)
            fail_msg("%s: %.1f, not %d", kinds[i].file, mean_of(f), kinds[i].value);
        frame_unref(f);
    }
}

static void variable_frame_rate_keeps_its_times(void **state)
{
    (void)state;
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    static const int64_t expect[] = {0, 40, 200, 240, 1000};
    if (!ffmpeg(NUMBERED(
            "32x32",
            5) " -vf \"settb=1/1000,setpts='if(eq(N,0),0,if(eq(N,1),40,if(eq(N,2),200,if(eq(N,3),240,1000))))'\" "
               "-vsync vfr -enc_time_base 1:1000 -c:v libx264 -bf 0 -video_track_timescale 1000 vfr.mp4"))
        return;
    assert_int_equal(clip_open(tmp("vfr.mp4"), NULL, &c, &e), 0);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(clip_next(c, &f, &e), 1);
        assert_int_equal(f->pts_ms, expect[i]);
        frame_unref(f);
    }
    assert_int_equal(clip_next(c, &f, &e), 0);
    clip_close(c);
}

static int read_all(const char *path, const struct clip_limits *limits, int *frames, struct err *e)
{
    struct clip *c = NULL;
    struct frame *f;
    int rc = clip_open(path, limits, &c, e);
    *frames = 0;
    while (c && (rc = clip_next(c, &f, e)) > 0) {
        frame_unref(f);
        ++*frames;
    }
    clip_close(c);
    return rc;
}

static void each_limit_has_its_error(void **state)
{
    (void)state;
    struct err e = {0};
    int n;
    if (!ffmpeg(NUMBERED("64x48", 50) " -c:v mpeg4 limits.mp4"))
        return;
    const char *p = tmp("limits.mp4");
    assert_int_equal(read_all(p, &(struct clip_limits){.max_frames = 50}, &n, &e), 0);
    assert_int_equal(read_all(p, &(struct clip_limits){.max_frames = 49}, &n, &e), ERR_LIMIT);
    assert_int_equal(n, 49);
    assert_non_null(strstr(e.msg, "49 pictures"));
    assert_int_equal(read_all(p, &(struct clip_limits){.max_pixels = 64 * 48 - 1}, &n, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "pixels"));
    assert_int_equal(read_all(p, &(struct clip_limits){.max_side_px = 63}, &n, &e), ERR_LIMIT);
    assert_int_equal(read_all(p, &(struct clip_limits){.max_bytes = 1000}, &n, &e), ERR_LIMIT);
    assert_non_null(strstr(e.msg, "bytes"));
}

static void time_runs_out(void **state)
{
    (void)state;
    struct err e = {0};
    int n;
    if (!ffmpeg("-f lavfi -i testsrc2=s=640x480:r=25 -frames:v 200 -c:v libx264 -preset ultrafast long.mp4"))
        return;
    int64_t since = clock_mono_ms();
    int rc = read_all(tmp("long.mp4"), &(struct clip_limits){.max_decode_ms = 30}, &n, &e);
    assert_int_equal(rc, ERR_TIMEOUT);
    assert_true(clock_mono_ms() - since < 2000);
    assert_non_null(strstr(e.msg, "30 ms"));
}

static void damage_is_an_error_unless_allowed(void **state)
{
    (void)state;
    struct buf b = BUF_INIT;
    struct err e = {0};
    int n;
    if (!ffmpeg(NUMBERED("64x48", 50) " -c:v libx264 -movflags +faststart damage.mp4"))
        return;
    assert_int_equal(fs_read(tmp("damage.mp4"), 1 << 22, &b, NULL), 0);
    char *mdat = memmem(b.data, b.len, "mdat", 4);
    size_t from = (size_t)(mdat - b.data), body = b.len - from;
    assert_int_equal(fs_write_atomic(tmp("cut.mp4"), b.data, from + body / 2, NULL), 0);
    assert_int_equal(read_all(tmp("cut.mp4"), NULL, &n, &e), ERR_CORRUPT);
    assert_true(n < N);
    assert_int_equal(read_all(tmp("cut.mp4"), &(struct clip_limits){.max_damaged = -1}, &n, &e), 0);
    assert_true(n > 0 && n < N);
    memset(b.data + from + body / 2, 0x5a, body / 8);
    assert_int_equal(fs_write_atomic(tmp("holes.mp4"), b.data, b.len, NULL), 0);
    assert_int_equal(read_all(tmp("holes.mp4"), NULL, &n, &e), ERR_CORRUPT);
    assert_non_null(strstr(e.msg, "damaged at picture"));
    assert_int_equal(fs_write_atomic(tmp("head.mp4"), b.data, 400, NULL), 0);
    assert_int_equal(read_all(tmp("head.mp4"), NULL, &n, &e), ERR_CORRUPT);
    buf_free(&b);
}

static void what_is_not_media_is_refused(void **state)
{
    (void)state;
    struct err e = {0};
    int n;
    static const struct {
        const char *name, *content;
        int code;
    } files[] = {
        {"x.mp4", "", ERR_CORRUPT},
        {"y.mp4", "hello, this is only text and nothing else at all", ERR_UNSUPPORTED},
        {"z.png", "\x89PNG\r\n\x1a\n", ERR_CORRUPT},
        /* playlists that name other files, which must never be opened */
        {"list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
         ERR_UNSUPPORTED},
        {"list.ffconcat", "ffconcat version 1.0\nfile /etc/passwd\n", ERR_UNSUPPORTED},
        {"list.mp4", "<?xml version=\"1.0\"?><MPD><Period><BaseURL>http://127.0.0.1/</BaseURL></Period></MPD>",
         ERR_UNSUPPORTED},
        {"list.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5000 RTP/AVP 96\n",
         ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        assert_int_equal(fs_write_atomic(tmp(files[i].name), files[i].content, strlen(files[i].content), NULL), 0);
        int rc = read_all(tmp(files[i].name), NULL, &n, &e);
        if (rc != files[i].code)
            fail_msg("%s: %d %s", files[i].name, rc, e.msg);
        assert_non_null(strstr(e.msg, files[i].name));
    }
    assert_int_equal(read_all(tmp("missing"), NULL, &n, &e), ERR_NOTFOUND);
    assert_int_equal(read_all("/dev/zero", NULL, &n, &e), ERR_UNSUPPORTED);
    assert_int_equal(mkfifo(tmp("fifo"), 0600), 0);
    assert_int_equal(read_all(tmp("fifo"), NULL, &n, &e), ERR_UNSUPPORTED);
    if (ffmpeg("-f lavfi -i sine=d=1 -c:a aac sound.mp4"))
        assert_int_equal(read_all(tmp("sound.mp4"), NULL, &n, &e), ERR_UNSUPPORTED);
}

static void mutated_clips_never_hurt(void **state)
{
    (void)state;
    static const char *const files[][2] = {
        {"m.mp4", "-c:v libx264"}, {"m.webm", "-c:v libvpx-vp9 -cpu-used 8"}, {"m.avi", "-c:v mpeg4"}, {"m.gif", ""},
        {"m.mkv", "-c:v ffv1"},
    };
    int fds = open_fds();
    uint32_t x = 5;
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        char args[512];
        struct buf b = BUF_INIT;
        snprintf(args, sizeof(args), "%s %s %s", NUMBERED("32x32", 6), files[i][1], files[i][0]);
        if (!ffmpeg(args))
            continue;
        assert_int_equal(fs_read(tmp(files[i][0]), 1 << 22, &b, NULL), 0);
        for (int k = 0; k < 60; k++) {
            char was[16];
            size_t at[16];
            int flips = 1 + k % 16, n;
            for (int j = 0; j < flips; j++) {
                x = x * 1664525 + 1013904223;
                at[j] = (x >> 8) % (k % 2 ? b.len : b.len < 400 ? b.len : 400);
                was[j] = b.data[at[j]];
                b.data[at[j]] = (char)(x >> 3);
            }
            FILE *f = fopen(tmp("mutated"), "wb");
            size_t len = k % 5 ? b.len : (x >> 8) % b.len;
            assert_int_equal(fwrite(b.data, 1, len, f), len);
            fclose(f);
            struct err e = {0};
            int rc =
                read_all(tmp("mutated"), &(struct clip_limits){.max_pixels = 1 << 20, .max_decode_ms = 2000}, &n, &e);
            assert_true(rc == 0 || (rc < 0 && e.msg[0]));
            for (int j = flips - 1; j >= 0; j--)
                b.data[at[j]] = was[j];
        }
        buf_free(&b);
    }
    assert_int_equal(open_fds(), fds);
}

/* Every broken or odd file that the project knows: decoded or refused with a reason, no hang, no leaked descriptor. */
static void known_bad_media(void **state)
{
    (void)state;
    const char *shared = shared_dir();
    static const char *const folders[] = {"jpeg", "png", "odd-video", "tiny"};
    if (!shared)
        return;
    int fds = open_fds(), files = 0;
    for (int i = 0; i < 4; i++) {
        char folder[FS_PATH_MAX], path[FS_PATH_MAX];
        struct fs_list names;
        snprintf(folder, sizeof(folder), "%s/data/bad-media/%s", shared, folders[i]);
        assert_int_equal(fs_list(folder, &names, NULL), 0);
        for (size_t k = 0; k < names.n; k++, files++) {
            struct err e = {0};
            int n;
            int64_t since = clock_mono_ms();
            assert_int_equal(fs_join(path, folder, names.names[k], NULL), 0);
            int rc = read_all(path, &(struct clip_limits){.max_decode_ms = 20000}, &n, &e);
            assert_true(rc == 0 ? n > 0 : e.msg[0] != 0);
            assert_true(clock_mono_ms() - since < 25000);
            if (strstr(path, "/png/x"))
                assert_true(rc < 0); /* PngSuite's corrupted files */
        }
        fs_list_free(&names);
    }
    assert_true(files > 100);
    assert_int_equal(open_fds(), fds);
}

static void folders_are_clips(void **state)
{
    (void)state;
    struct clip *c;
    struct frame *f;
    struct err e = {0};
    assert_int_equal(fs_mkdirs(tmp("folder/sub"), NULL), 0);
    assert_int_equal(fs_mkdirs(tmp("folder/.cache"), NULL), 0);
    static const char *const names[] = {"folder/f2.png", "folder/f10.png", "folder/f1.png", "folder/sub/a.png",
                                        "folder/.cache/x.png"};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(frame_new(FRAME_GRAY8, 8 + i, 8, &f, NULL), 0);
        memset(f->data, i, (size_t)f->stride_bytes * 8);
        assert_int_equal(image_write_png(tmp(names[i]), f, NULL), 0);
        frame_unref(f);
    }
    assert_int_equal(fs_write_atomic(tmp("folder/notes.txt"), "x", 1, NULL), 0);
    assert_int_equal(clip_open(tmp("folder"), NULL, &c, &e), 0);
    static const int order[] = {2, 0, 1, 3};
    static const char *const expect[] = {"f1", "f2", "f10", "sub/a"};
    assert_int_equal(clip_info(c)->frames, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(clip_next(c, &f, &e), 1);
        assert_int_equal(f->data[0], order[i]);
        assert_int_equal(f->width_px, 8 + order[i]);
        assert_string_equal(clip_frame_name(c, i), expect[i]);
        frame_unref(f);
    }
    assert_int_equal(clip_next(c, &f, &e), 0);
    clip_close(c);
    assert_int_equal(fs_mkdirs(tmp("nothing"), NULL), 0);
    assert_int_equal(clip_open(tmp("nothing"), NULL, &c, &e), ERR_UNSUPPORTED);
}

static void overlay_video_plays_as_written(void **state)
{
    (void)state;
    struct overlay *o;
    struct err e = {0};
    enum { OW = 97, OH = 61 };
    static uint8_t map[OW * OH];
    struct frame *f;
    for (int y = 0; y < OH; y++)
        for (int x = OW / 2; x < OW; x++)
            map[y * OW + x] = 255;
    assert_int_equal(overlay_open(tmp("o.mp4"), OW, OH, &(struct overlay_opts){.fps = 10}, &o, &e), 0);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(frame_new(FRAME_RGB24, OW, OH, &f, NULL), 0);
        memset(f->data, 60, (size_t)f->stride_bytes * OH);
        f->pts_ms = i * i * 50;
        assert_int_equal(overlay_add(o, f, map, OW, &e), 0);
        frame_unref(f);
    }
    assert_false(fs_exists(tmp("o.mp4")));
    assert_int_equal(overlay_finish(o, &e), 0);
    overlay_close(o);
    assert_false(fs_exists(tmp("o.mp4.part")));
    struct buf b = BUF_INIT;
    assert_int_equal(fs_read(tmp("o.mp4"), 1 << 22, &b, &e), 0);
    const char *moov = memmem(b.data, b.len, "moov", 4), *mdat = memmem(b.data, b.len, "mdat", 4);
    assert_true(moov && mdat && moov < mdat);
    buf_free(&b);
    struct clip *c;
    assert_int_equal(clip_open(tmp("o.mp4"), NULL, &c, &e), 0);
    for (int i = 0; i < 7; i++) {
        assert_int_equal(clip_next(c, &f, &e), 1);
        assert_int_equal(f->width_px, OW + 1);
        assert_int_equal(f->height_px, OH + 1);
        assert_int_equal(f->pts_ms, i * i * 50);
        assert_true(abs(red_at(f, 0.2, 0.5) - 60) < 8);
        assert_true(red_at(f, 0.8, 0.5) > 150);
        frame_unref(f);
    }
    assert_int_equal(clip_next(c, &f, &e), 0);
    clip_close(c);
    assert_int_equal(overlay_open(tmp("gone.mp4"), OW, OH, NULL, &o, &e), 0);
    overlay_close(o);
    assert_false(fs_exists(tmp("gone.mp4.part")));
    assert_true(overlay_open(tmp("no/such/folder.mp4"), OW, OH, NULL, &o, &e) < 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_container_counts_and_seeks_exactly),
        cmocka_unit_test(rotation_is_applied),
        cmocka_unit_test(colours_follow_range_and_matrix),
        cmocka_unit_test(odd_sizes_alpha_and_stills),
        cmocka_unit_test(variable_frame_rate_keeps_its_times),
        cmocka_unit_test(each_limit_has_its_error),
        cmocka_unit_test(time_runs_out),
        cmocka_unit_test(damage_is_an_error_unless_allowed),
        cmocka_unit_test(what_is_not_media_is_refused),
        cmocka_unit_test(mutated_clips_never_hurt),
        cmocka_unit_test(known_bad_media),
        cmocka_unit_test(folders_are_clips),
        cmocka_unit_test(overlay_video_plays_as_written),
    };
    return cmocka_run_group_tests(tests, make_tmp, remove_tmp);
}
