/*
 * The short way for the PNGs that evaluation and label stores read by the thousand: grey or palette, 1 to 8 bits, not
 * interlaced, opaque. The whole image is inflated at once by libdeflate and unfiltered into the frame, some three times
 * as fast as row by row. Everything else, and everything that looks wrong, is left to image_png.c: it knows all forms
 * and says what is damaged. Both give the same pixels.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <libdeflate.h>

#include "core/media/image_codec.h"

enum { GREY = 0, PALETTE = 3, SIGNATURE_BYTES = 8, CHUNK_BYTES = 12 };

struct fast_png {
    int w, h, bits, type;
    uint8_t palette[256][3];
    int colours;
    uint8_t *idat;
    size_t idat_bytes;
};

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static bool take_header(struct fast_png *f, const uint8_t *c, size_t n)
{
    if (n != 13 || be32(c) > INT32_MAX || be32(c + 4) > INT32_MAX)
        return false;
    f->w = (int)be32(c);
    f->h = (int)be32(c + 4);
    f->bits = c[8];
    f->type = c[9];
    return f->w > 0 && f->h > 0 && (f->type == GREY || f->type == PALETTE) &&
           (f->bits == 1 || f->bits == 2 || f->bits == 4 || f->bits == 8) && c[10] == 0 && c[11] == 0 && c[12] == 0;
}

static bool take_palette(struct fast_png *f, const uint8_t *c, size_t n)
{
    if (n % 3 || n > sizeof(f->palette) || f->colours)
        return false;
    memcpy(f->palette, c, n);
    f->colours = (int)(n / 3);
    return f->colours > 0;
}

/* One chunk of type `is` with n bytes at c. False: not for us. */
static bool take_chunk(struct fast_png *f, const uint8_t *is, const uint8_t *c, size_t n)
{
    bool critical = !(is[0] & 0x20);
    if (memcmp(is, "tRNS", 4) == 0 || memcmp(is, "eXIf", 4) == 0)
        return false;
    if (critical && libdeflate_crc32(0, is, n + 4) != be32(c + n))
        return false;
    if (memcmp(is, "IHDR", 4) == 0)
        return f->w == 0 && take_header(f, c, n);
    if (memcmp(is, "PLTE", 4) == 0)
        return take_palette(f, c, n);
    if (memcmp(is, "IDAT", 4) == 0) {
        memcpy(f->idat + f->idat_bytes, c, n);
        f->idat_bytes += n;
        return true;
    }
    return !critical || memcmp(is, "IEND", 4) == 0;
}

/* All chunks up to IEND. */
static bool take_all(struct fast_png *f, const uint8_t *d, size_t len)
{
    for (size_t at = SIGNATURE_BYTES; len - at >= CHUNK_BYTES;) {
        size_t n = be32(d + at);
        if (n > len - at - CHUNK_BYTES || !take_chunk(f, d + at + 4, d + at + 8, n))
            return false;
        if (memcmp(d + at + 4, "IEND", 4) == 0)
            return f->w && f->idat_bytes && (f->type == GREY || f->colours);
        if (f->w == 0)
            return false;
        at += CHUNK_BYTES + n;
    }
    return false;
}

static uint8_t paeth(int a, int b, int c)
{
    int pa = abs(b - c), pb = abs(a - c), pc = abs(a + b - 2 * c);
    return (uint8_t)(pa <= pb && pa <= pc ? a : pb <= pc ? b : c);
}

/* One row, in place, a byte a pixel or less: the byte before is the left neighbour. `up` is the row above, unfiltered. */
static bool unfilter(int filter, uint8_t *row, const uint8_t *up, size_t n)
{
    uint8_t a = 0, c = 0;
    switch (filter) {
    case 0:
        return true;
    case 1:
        for (size_t i = 0; i < n; i++)
            row[i] = a = (uint8_t)(a + row[i]);
        return true;
    case 2:
        for (size_t i = 0; i < n; i++)
            row[i] = (uint8_t)(row[i] + up[i]);
        return true;
    case 3:
        for (size_t i = 0; i < n; i++)
            row[i] = a = (uint8_t)(row[i] + (a + up[i]) / 2);
        return true;
    case 4:
        for (size_t i = 0; i < n; i++) {
            row[i] = a = (uint8_t)(row[i] + paeth(a, up[i], c));
            c = up[i];
        }
        return true;
    }
    return false;
}

/* Value of each sample as the caller wants it; `valid` is the number of samples that may occur. */
static int sample_values(const struct fast_png *f, enum image_want want, uint8_t out[256])
{
    int n = 1 << f->bits;
    for (int i = 0; i < n; i++) {
        const uint8_t *p = f->palette[i];
        int grey = f->type == GREY ? i * (255 / (n - 1)) : image_luma(p[0], p[1], p[2]);
        out[i] = (uint8_t)(want == IMAGE_INDEX ? i : grey);
    }
    return f->type == PALETTE && f->colours < n ? f->colours : n;
}

/* A row of samples to bytes. False when a sample has no colour. */
static bool expand(const struct fast_png *f, const uint8_t *row, const uint8_t *value, int valid, uint8_t *out)
{
    int top = 0, mask = (1 << f->bits) - 1, per = 8 / f->bits;
    if (f->bits == 8 && f->type == GREY) {
        memcpy(out, row, (size_t)f->w);
        return true;
    }
    for (int x = 0; x < f->w && per == 1; x++) {
        top = row[x] > top ? row[x] : top;
        out[x] = value[row[x]];
    }
    for (int x = 0; x < f->w && per > 1; x++) {
        int v = row[x / per] >> (8 - f->bits * (x % per + 1)) & mask;
        top = v > top ? v : top;
        out[x] = value[v];
    }
    return top < valid;
}

static bool inflate_all(const struct fast_png *f, uint8_t *raw, size_t n)
{
    struct libdeflate_decompressor *d = libdeflate_alloc_decompressor();
    bool ok = d && libdeflate_zlib_decompress(d, f->idat, f->idat_bytes, raw, n, NULL) == LIBDEFLATE_SUCCESS;
    libdeflate_free_decompressor(d);
    return ok;
}

static bool decode(const struct fast_png *f, enum image_want want, struct frame **out)
{
    size_t bytes = ((size_t)f->w * (size_t)f->bits + 7) / 8, line = bytes + 1;
    uint8_t *raw = malloc(line * ((size_t)f->h + 1)), value[256];
    bool ok = raw && frame_new(FRAME_GRAY8, f->w, f->h, out, NULL) == 0;
    if (ok) {
        memset(raw, 0, line); /* the row above the first */
        ok = inflate_all(f, raw + line, line * (size_t)f->h);
    }
    int valid = sample_values(f, want, value);
    for (int y = 0; ok && y < f->h; y++) {
        uint8_t *row = raw + line * ((size_t)y + 1);
        ok = unfilter(row[0], row + 1, row + 1 - line, bytes) &&
             expand(f, row + 1, value, valid, (*out)->data + (ptrdiff_t)y * (*out)->stride_bytes);
    }
    free(raw);
    return ok;
}

bool image_png_decode_fast(const void *data, size_t len, enum image_want want, int64_t max_pixels, struct frame **out,
                           struct image_meta *meta)
{
    struct fast_png f = {0};
    *out = NULL;
    if ((want != IMAGE_GRAY && want != IMAGE_INDEX) || len < SIGNATURE_BYTES)
        return false;
    bool ok = (f.idat = malloc(len)) && take_all(&f, data, len) && image_check_size(f.w, f.h, max_pixels, NULL) == 0 &&
              decode(&f, want, out);
    free(f.idat);
    if (!ok) {
        frame_unref(*out);
        *out = NULL;
        return false;
    }
    *meta = (struct image_meta){
        .width_px = f.w, .height_px = f.h, .orientation = 1, .bits = f.bits, .palette = f.type == PALETTE};
    return true;
}
