/*
 * Orientation: EXIF value k says where row 0 and column 0 of the stored picture belong. One table turns it into three
 * switches (transpose, flip x, flip y), so one loop serves all eight. The EXIF reader looks only at IFD0 and trusts no
 * offset.
 */
#include "core/media/orient.h"

#include <stdbool.h>
#include <string.h>

/* Upright (x,y) is read from stored (u,v): u = flip_x ? W-1-a : a, v = flip_y ? H-1-b : b with (a,b) = transpose ?
 * (y,x) : (x,y). */
static const struct {
    bool transpose, flip_x, flip_y; /* flips are of the stored picture */
} turns[9] = {
    [1] = {false, false, false}, [2] = {false, true, false}, [3] = {false, true, true}, [4] = {false, false, true},
    [5] = {true, false, false},  [6] = {true, false, true},  [7] = {true, true, true},  [8] = {true, true, false},
};

static uint32_t get_uint(const uint8_t *p, int bytes, bool big)
{
    uint32_t v = 0;
    for (int i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << (8 * (big ? bytes - 1 - i : i));
    return v;
}

int orient_from_exif(const uint8_t *data, size_t len)
{
    if (len >= 6 && memcmp(data, "Exif\0\0", 6) == 0)
        data += 6, len -= 6;
    if (len < 8 || (memcmp(data, "MM\0*", 4) != 0 && memcmp(data, "II*\0", 4) != 0))
        return 1;
    bool big = data[0] == 'M';
    size_t ifd = get_uint(data + 4, 4, big);
    if (ifd > len - 2)
        return 1;
    size_t entries = get_uint(data + ifd, 2, big);
    for (size_t i = 0, at = ifd + 2; i < entries && at + 12 <= len; i++, at += 12) {
        if (get_uint(data + at, 2, big) != 0x0112)
            continue;
        uint32_t type = get_uint(data + at + 2, 2, big), value = get_uint(data + at + 8, 2, big);
        return type == 3 && value >= 1 && value <= 8 ? (int)value : 1;
    }
    return 1;
}

int orient_from_matrix(const int32_t m[9])
{
    int32_t a = m[0], b = m[1], c = m[3], d = m[4];
    if (b == 0 && c == 0 && a != 0 && d != 0)
        return a > 0 ? (d > 0 ? 1 : 4) : (d > 0 ? 2 : 3);
    if (a == 0 && d == 0 && b != 0 && c != 0)
        return b > 0 ? (c > 0 ? 5 : 6) : (c > 0 ? 8 : 7);
    return 1;
}

void orient_copy(const struct frame *src, struct frame *dst, int orientation)
{
    BUG_ON(orientation < 1 || orientation > 8 || src->fmt != dst->fmt);
    int bpp = frame_channels(src->fmt);
    ptrdiff_t step_u = turns[orientation].flip_x ? -bpp : bpp;
    ptrdiff_t step_v = turns[orientation].flip_y ? -(ptrdiff_t)src->stride_bytes : src->stride_bytes;
    const uint8_t *origin = src->data + (turns[orientation].flip_x ? (size_t)(src->width_px - 1) * (size_t)bpp : 0) +
                            (turns[orientation].flip_y ? (size_t)(src->height_px - 1) * (size_t)src->stride_bytes : 0);
    ptrdiff_t step_x = turns[orientation].transpose ? step_v : step_u;
    ptrdiff_t step_y = turns[orientation].transpose ? step_u : step_v;
    for (int y = 0; y < dst->height_px; y++) {
        const uint8_t *s = origin + y * step_y;
        uint8_t *d = dst->data + (size_t)y * (size_t)dst->stride_bytes;
        for (int x = 0; x < dst->width_px; x++, s += step_x, d += bpp)
            for (int k = 0; k < bpp; k++)
                d[k] = s[k];
    }
}

int orient_apply(struct frame **f, int orientation, struct err *e)
{
    if (orientation <= 1)
        return 0;
    struct frame *src = *f, *dst = NULL;
    bool swap = orient_swaps_sides(orientation);
    int rc = frame_new(src->fmt, swap ? src->height_px : src->width_px, swap ? src->width_px : src->height_px, &dst, e);
    if (rc < 0)
        return rc;
    orient_copy(src, dst, orientation);
    dst->ordinal = src->ordinal;
    dst->pts_ms = src->pts_ms;
    frame_unref(src);
    *f = dst;
    return 0;
}
