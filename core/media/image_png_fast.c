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
#ifdef __SSE2__
#include <emmintrin.h>
#endif

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

/* Where the compiler should vectorise whatever it is told elsewhere. */
#if defined(__GNUC__) && !defined(__clang__)
#define VECTORISED __attribute__((optimize("O3")))
#else
#define VECTORISED
#endif

VECTORISED
static void add_up(const uint8_t *in, const uint8_t *up, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(in[i] + up[i]);
}

/* Running sums, sixteen at a time where the CPU can: each shift and addition doubles how many bytes are summed. */
static void add_left(const uint8_t *in, size_t n, uint8_t *out)
{
    uint8_t a = 0;
    size_t i = 0;
#ifdef __SSE2__
    for (; i + 16 <= n; i += 16) {
        __m128i v = _mm_loadu_si128((const void *)(in + i));
        v = _mm_add_epi8(v, _mm_slli_si128(v, 1));
        v = _mm_add_epi8(v, _mm_slli_si128(v, 2));
        v = _mm_add_epi8(v, _mm_slli_si128(v, 4));
        v = _mm_add_epi8(v, _mm_slli_si128(v, 8));
        v = _mm_add_epi8(v, _mm_set1_epi8((char)a));
        _mm_storeu_si128((void *)(out + i), v);
        a = (uint8_t)(_mm_extract_epi16(v, 7) >> 8);
    }
#endif
    for (; i < n; i++)
        out[i] = a = (uint8_t)(a + in[i]);
}

/* Eight bytes of a flat area: nothing changes, and all around is `a`. Then average and Paeth predict `a`. */
static bool is_flat(const uint8_t *in, const uint8_t *up, uint8_t a, uint8_t c)
{
    uint64_t x, u;
    memcpy(&x, in, sizeof(x));
    memcpy(&u, up, sizeof(u));
    return x == 0 && c == a && u == a * (uint64_t)0x0101010101010101;
}

static void add_average(const uint8_t *in, const uint8_t *up, size_t n, uint8_t *out)
{
    uint8_t a = 0;
    for (size_t i = 0; i < n;) {
        if (i + 8 <= n && is_flat(in + i, up + i, a, a)) {
            memset(out + i, a, 8);
            i += 8;
            continue;
        }
        for (size_t end = i + 8 < n ? i + 8 : n; i < end; i++)
            out[i] = a = (uint8_t)(in[i] + (a + up[i]) / 2);
    }
}

static void add_paeth(const uint8_t *in, const uint8_t *up, size_t n, uint8_t *out)
{
    uint8_t a = 0, c = 0;
    for (size_t i = 0; i < n;) {
        if (i + 8 <= n && is_flat(in + i, up + i, a, c)) {
            memset(out + i, a, 8);
            i += 8;
            continue;
        }
        for (size_t end = i + 8 < n ? i + 8 : n; i < end; i++) {
            out[i] = a = (uint8_t)(in[i] + paeth(a, up[i], c));
            c = up[i];
        }
    }
}

/* One row, a byte a pixel or less: the byte before is the left neighbour. `up` is the row above, unfiltered; out may be
 * `in`. */
static bool unfilter(int filter, const uint8_t *in, const uint8_t *up, size_t n, uint8_t *out)
{
    switch (filter) {
    case 0:
        memmove(out, in, n);
        return true;
    case 1:
        add_left(in, n, out);
        return true;
    case 2:
        add_up(in, up, n, out);
        return true;
    case 3:
        add_average(in, up, n, out);
        return true;
    case 4:
        add_paeth(in, up, n, out);
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
    int top = 0, bits = f->bits, mask = (1 << bits) - 1, per = 8 / bits;
    for (int x = 0; x < f->w && per == 1; x++) {
        top = row[x] > top ? row[x] : top;
        out[x] = value[row[x]];
    }
    for (int x = 0; x < f->w && per > 1; row++)
        for (int shift = 8 - bits; shift >= 0 && x < f->w; shift -= bits, x++) {
            int v = *row >> shift & mask;
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

/* Inflated rows to pixels: straight into the frame when the samples are its bytes. */
static bool unpack(const struct fast_png *f, enum image_want want, uint8_t *raw, size_t bytes, struct frame *out)
{
    bool direct = f->bits == 8 && f->type == GREY, ok = true;
    uint8_t value[256], *up = calloc(1, bytes);
    const uint8_t *above = up;
    int valid = sample_values(f, want, value);
    for (int y = 0; ok && up && y < f->h; y++) {
        uint8_t *row = raw + (bytes + 1) * (size_t)y + 1, *pixels = out->data + (ptrdiff_t)y * out->stride_bytes;
        uint8_t *to = direct ? pixels : row;
        ok = unfilter(row[-1], row, above, bytes, to) && (direct || expand(f, row, value, valid, pixels));
        above = to;
    }
    ok = ok && up;
    free(up);
    return ok;
}

static bool decode(const struct fast_png *f, enum image_want want, struct frame **out)
{
    size_t bytes = ((size_t)f->w * (size_t)f->bits + 7) / 8, all = (bytes + 1) * (size_t)f->h;
    uint8_t *raw = malloc(all);
    bool ok = raw && frame_new(FRAME_GRAY8, f->w, f->h, out, NULL) == 0;
    ok = ok && inflate_all(f, raw, all) && unpack(f, want, raw, bytes, *out);
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
