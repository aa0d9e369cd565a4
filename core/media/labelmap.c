/* Label masks in and out: what the pixels of a PNG mean. The header is read first, so a wrong size costs nothing. */
#include "core/media/labelmap.h"

#include <string.h>

#include "core/media/image.h"

/* Offsets in a PNG: the signature (8), then length and name of the header chunk, then its fields (PNG, section 11.2.2). */
enum { AT_WIDTH = 16, AT_HEIGHT = 20, AT_BITS = 24, AT_COLOUR = 25, HEADER_END = 33 };
enum { COLOUR_GREY = 0, COLOUR_PALETTE = 3 };
enum { GREY_LABEL_MAX = 64 }; /* of several grey values: above, they are shades */

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static int check_header(const uint8_t *png, size_t len, int width_px, int height_px, struct err *e)
{
    if (image_sniff(png, len) != IMAGE_PNG)
        return err_set(e, ERR_UNSUPPORTED, "a mask is a PNG");
    if (len < HEADER_END)
        return err_set(e, ERR_CORRUPT, "the mask's PNG ends early");
    uint32_t w = be32(png + AT_WIDTH), h = be32(png + AT_HEIGHT);
    if (w != (uint32_t)width_px || h != (uint32_t)height_px)
        return err_set(e, ERR_INVALID, "the mask is %u x %u, its frame %d x %d", w, h, width_px, height_px);
    if (png[AT_BITS] == 16)
        return err_set(e, ERR_UNSUPPORTED, "the mask has 16 bits a sample; use 8 or fewer");
    return 0;
}

void labelmap_count(struct labelmap *m)
{
    const struct frame *f = m->labels;
    memset(m->present, 0, sizeof(m->present));
    for (int y = 0; y < f->height_px; y++)
        for (int x = 0; x < f->width_px; x++)
            m->present[f->data[(ptrdiff_t)y * f->stride_bytes + x]] = true;
    m->objects = 0;
    for (int v = 1; v < 256; v++)
        m->objects += m->present[v];
}

static void make_binary(struct labelmap *m)
{
    struct frame *f = m->labels;
    for (int y = 0; y < f->height_px; y++)
        for (int x = 0; x < f->width_px; x++) {
            uint8_t *p = &f->data[(ptrdiff_t)y * f->stride_bytes + x];
            *p = *p != 0;
        }
    labelmap_count(m);
}

/* Grey values, or the luma of colours, to labels. */
static int read_grey(struct labelmap *m, bool colour, struct err *e)
{
    if (colour && (m->objects > 1 || (m->objects == 1 && !m->present[255])))
        return err_set(e, ERR_UNSUPPORTED,
                       "a mask in colour has black and white only; use a palette PNG for several objects");
    int brightest = 255;
    while (brightest > 0 && !m->present[brightest])
        brightest--;
    if (m->objects > 1 && brightest > GREY_LABEL_MAX)
        return err_set(e, ERR_UNSUPPORTED,
                       "the mask has %d grey values, as with soft edges; use 0 and 255, or a "
                       "palette PNG for several objects",
                       m->objects + 1);
    if (m->objects == 1)
        make_binary(m);
    return 0;
}

int labelmap_decode(const void *png, size_t len, int width_px, int height_px, struct labelmap *out, struct err *e)
{
    const uint8_t *bytes = png;
    *out = (struct labelmap){0};
    int rc = check_header(bytes, len, width_px, height_px, e);
    if (rc == 0)
        rc = image_decode(png, len, IMAGE_INDEX, (int64_t)width_px * height_px, &out->labels, e);
    if (rc)
        return rc;
    if (out->labels->width_px != width_px || out->labels->height_px != height_px) /* turned by its metadata */
        rc = err_set(e, ERR_UNSUPPORTED, "the mask is to be turned; store it upright");
    if (rc == 0) {
        labelmap_count(out);
        if (bytes[AT_COLOUR] != COLOUR_PALETTE)
            rc = read_grey(out, bytes[AT_COLOUR] != COLOUR_GREY, e);
    }
    if (rc)
        labelmap_fini(out);
    return rc;
}

void labelmap_fini(struct labelmap *m)
{
    frame_unref(m->labels);
    *m = (struct labelmap){0};
}

void labelmap_palette(uint8_t rgb[256][3])
{
    for (int i = 0; i < 256; i++)
        for (int c = 0; c < 3; c++) {
            int v = 0;
            for (int bit = 0; bit < 3; bit++)
                v |= (i >> (3 * bit + c) & 1) << (7 - bit);
            rgb[i][c] = (uint8_t)v;
        }
}

int labelmap_encode(const struct frame *labels, struct buf *out, struct err *e)
{
    uint8_t rgb[256][3];
    labelmap_palette(rgb);
    return image_encode_png_palette(labels, (const uint8_t(*)[3])rgb, 256, out, e);
}
