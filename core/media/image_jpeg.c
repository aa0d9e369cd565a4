/*
 * JPEG in and out through libjpeg-turbo. The library reports fatal errors through a callback that must not return, so
 * each entry point has one setjmp; everything that must be freed afterwards lives in the struct, never in a local
 * variable.
 *
 * Damage policy: libjpeg repairs a broken stream with grey blocks and a warning. Warnings that mean lost pixels are
 * ERR_CORRUPT here, harmless ones (stray bytes, odd version numbers) pass. A progressive file is bounded in scans,
 * since each scan costs a pass over the whole picture.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "core/media/image_codec.h"
#include "core/media/orient.h"

#define JPEG_SCANS_MAX 200
#define JPEG_EXIF_MAX 65533

struct jpeg_reader {
    struct jpeg_decompress_struct cinfo;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    int code; /* ERR_* of the failure */
    char text[JMSG_LENGTH_MAX];
    bool header_only;
    struct frame *frame;
    JSAMPLE *cmyk; /* one row */
};

static void reader_fail(struct jpeg_reader *r, int code)
{
    r->code = code;
    r->errors.format_message((j_common_ptr)&r->cinfo, r->text);
    longjmp(r->escape, 1);
}

static void on_error(j_common_ptr c)
{
    struct jpeg_reader *r = (struct jpeg_reader *)c->client_data;
    switch (r->errors.msg_code) {
    case JERR_OUT_OF_MEMORY:
        reader_fail(r, ERR_NOMEM);
        break;
    case JERR_SOF_UNSUPPORTED:
    case JERR_BAD_PRECISION:
    case JERR_CONVERSION_NOTIMPL:
    case JERR_ARITH_NOTIMPL:
    case JERR_NOTIMPL:
    case JERR_CCIR601_NOTIMPL:
    case JERR_FRACT_SAMPLE_NOTIMPL:
    case JERR_COMPONENT_COUNT:
        reader_fail(r, ERR_UNSUPPORTED);
        break;
    default:
        reader_fail(r, ERR_CORRUPT);
    }
}

static void on_message(j_common_ptr c, int level)
{
    struct jpeg_reader *r = (struct jpeg_reader *)c->client_data;
    if (level >= 0)
        return;
    switch (r->errors.msg_code) {
    case JWRN_ADOBE_XFORM:
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_JFIF_MAJOR:
    case JWRN_NOT_SEQUENTIAL:
    case JWRN_TOO_MUCH_DATA:
        return;
    default:
        reader_fail(r, ERR_CORRUPT);
    }
}

static void on_progress(j_common_ptr c)
{
    struct jpeg_reader *r = (struct jpeg_reader *)c->client_data;
    if (c->is_decompressor && r->cinfo.input_scan_number > JPEG_SCANS_MAX) {
        r->code = ERR_LIMIT;
        snprintf(r->text, sizeof(r->text), "more than %d scans", JPEG_SCANS_MAX);
        longjmp(r->escape, 1);
    }
}

static int orientation_of(const struct jpeg_decompress_struct *c)
{
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 1 && m->data_length >= 6 && memcmp(m->data, "Exif\0\0", 6) == 0)
            return orient_from_exif(m->data, m->data_length);
    return 1;
}

/* Multi-picture files (CIPA DC-007) carry previews behind the picture: still one image. */
static bool is_multi_picture(const struct jpeg_decompress_struct *c)
{
    for (jpeg_saved_marker_ptr m = c->marker_list; m; m = m->next)
        if (m->marker == JPEG_APP0 + 2 && m->data_length >= 4 && memcmp(m->data, "MPF\0", 4) == 0)
            return true;
    return false;
}

/* CMYK as Adobe writes it is inverted; plain CMYK is not. */
static void cmyk_row_to_rgb(const JSAMPLE *in, uint8_t *out, int width, bool inverted)
{
    for (int x = 0; x < width; x++, in += 4, out += 3) {
        unsigned k = inverted ? in[3] : 255u - in[3];
        for (int i = 0; i < 3; i++)
            out[i] = (uint8_t)(((inverted ? in[i] : 255u - in[i]) * k + 127) / 255);
    }
}

static void read_rows(struct jpeg_reader *r)
{
    struct jpeg_decompress_struct *c = &r->cinfo;
    bool cmyk = c->out_color_space == JCS_CMYK;
    if (cmyk)
        r->cmyk = (JSAMPLE *)(*c->mem->alloc_small)((j_common_ptr)c, JPOOL_IMAGE, c->output_width * 4);
    while (c->output_scanline < c->output_height) {
        uint8_t *dst = r->frame->data + (size_t)c->output_scanline * (size_t)r->frame->stride_bytes;
        JSAMPROW row = cmyk ? r->cmyk : dst;
        jpeg_read_scanlines(c, &row, 1);
        if (cmyk)
            cmyk_row_to_rgb(r->cmyk, dst, (int)c->output_width, c->saw_Adobe_marker);
    }
}

/* Header, checks, output form. CMYK has no grey output in libjpeg: it comes as RGB and image.c makes the luma. */
static int reader_start(struct jpeg_reader *r, enum image_want want, int64_t max_pixels, struct image_meta *meta,
                        struct err *e)
{
    struct jpeg_decompress_struct *c = &r->cinfo;
    jpeg_read_header(c, TRUE);
    *meta = (struct image_meta){.width_px = (int)c->image_width,
                                .height_px = (int)c->image_height,
                                .orientation = orientation_of(c),
                                .bits = 8};
    int rc = image_check_size(c->image_width, c->image_height, max_pixels, e);
    if (rc < 0)
        return rc;
    bool four = c->jpeg_color_space == JCS_CMYK || c->jpeg_color_space == JCS_YCCK;
    c->out_color_space = four ? JCS_CMYK : want == IMAGE_RGB ? JCS_RGB : JCS_GRAYSCALE;
    c->dct_method = JDCT_ISLOW;
    return 0;
}

static int reader_run(struct jpeg_reader *r, const void *data, size_t len, enum image_want want, int64_t max_pixels,
                      struct image_meta *meta, struct err *e)
{
    struct jpeg_decompress_struct *c = &r->cinfo;
    if (setjmp(r->escape))
        return err_set(e, r->code, "JPEG: %s", r->text);
    jpeg_create_decompress(c);
    c->progress = &r->progress;
    jpeg_save_markers(c, JPEG_APP0 + 1, JPEG_EXIF_MAX);
    jpeg_save_markers(c, JPEG_APP0 + 2, 16);
    jpeg_mem_src(c, data, len);
    int rc = reader_start(r, want, max_pixels, meta, e);
    if (rc < 0 || r->header_only)
        return rc;
    enum frame_format fmt = c->out_color_space == JCS_GRAYSCALE ? FRAME_GRAY8 : FRAME_RGB24;
    if ((rc = frame_new(fmt, meta->width_px, meta->height_px, &r->frame, e)) < 0)
        return rc;
    jpeg_start_decompress(c);
    read_rows(r);
    jpeg_finish_decompress(c);
    meta->more_pictures =
        c->src->bytes_in_buffer >= 3 && memcmp(c->src->next_input_byte, "\xff\xd8\xff", 3) == 0 && !is_multi_picture(c);
    return 0;
}

int image_jpeg_decode(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                      struct image_meta *meta, struct err *e)
{
    struct jpeg_reader *r = calloc(1, sizeof(*r));
    if (!r)
        return err_set(e, ERR_NOMEM, "JPEG: out of memory");
    r->header_only = !out;
    r->cinfo.err = jpeg_std_error(&r->errors);
    r->cinfo.client_data = r;
    r->errors.error_exit = on_error;
    r->errors.emit_message = on_message;
    r->progress.progress_monitor = on_progress;
    int rc = reader_run(r, data, len, want, max_pixels, meta, e);
    jpeg_destroy_decompress(&r->cinfo);
    if (rc < 0)
        frame_unref(r->frame);
    else if (out)
        *out = r->frame;
    free(r);
    return rc;
}

/* ---- writing -------------------------------------------------------------------------------------------------------
 */

struct jpeg_writer {
    struct jpeg_compress_struct cinfo;
    struct jpeg_error_mgr errors;
    jmp_buf escape;
    unsigned char *bytes;
    unsigned long n;
    char text[JMSG_LENGTH_MAX];
};

static void on_write_error(j_common_ptr c)
{
    struct jpeg_writer *w = (struct jpeg_writer *)c->client_data;
    w->errors.format_message(c, w->text);
    longjmp(w->escape, 1);
}

static void on_write_message(j_common_ptr c, int level)
{
    (void)c;
    (void)level;
}

static int writer_run(struct jpeg_writer *w, const struct frame *f, int quality, struct err *e)
{
    struct jpeg_compress_struct *c = &w->cinfo;
    if (setjmp(w->escape))
        return err_set(e, ERR_INVALID, "JPEG of %d x %d: %s", f->width_px, f->height_px, w->text);
    jpeg_create_compress(c);
    jpeg_mem_dest(c, &w->bytes, &w->n);
    c->image_width = (JDIMENSION)f->width_px;
    c->image_height = (JDIMENSION)f->height_px;
    c->input_components = frame_channels(f->fmt);
    c->in_color_space = f->fmt == FRAME_RGB24 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(c);
    jpeg_set_quality(c, quality, TRUE);
    jpeg_start_compress(c, TRUE);
    while (c->next_scanline < c->image_height) {
        JSAMPROW row = f->data + (size_t)c->next_scanline * (size_t)f->stride_bytes;
        jpeg_write_scanlines(c, &row, 1);
    }
    jpeg_finish_compress(c);
    return 0;
}

int image_encode_jpeg(const struct frame *f, int quality, struct buf *out, struct err *e)
{
    struct jpeg_writer *w = calloc(1, sizeof(*w));
    if (!w)
        return err_set(e, ERR_NOMEM, "JPEG: out of memory");
    w->cinfo.err = jpeg_std_error(&w->errors);
    w->cinfo.client_data = w;
    w->errors.error_exit = on_write_error;
    w->errors.emit_message = on_write_message;
    int rc = writer_run(w, f, quality, e);
    jpeg_destroy_compress(&w->cinfo);
    if (rc == 0) {
        buf_append(out, w->bytes, w->n);
        if (out->failed)
            rc = err_set(e, ERR_NOMEM, "JPEG: out of memory");
    }
    free(w->bytes);
    free(w);
    return rc;
}
