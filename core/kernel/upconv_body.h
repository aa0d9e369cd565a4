/*
 * The two bodies of upconv for one kind of number: a vector of middle channels in the C loops, one channel in a CUDA thread. Included once
 * per kind, with
 *   BODY(name)    the function's name for this kind
 *   BODY_REAL     the kind
 *   BODY_TARGET   its linkage and target
 */

/* Vertical: `f` of the way from the product of one small row to that of the next. */
BODY_TARGET BODY_REAL BODY(blend)(BODY_REAL lo, BODY_REAL hi, float f)
{
    return lo * (1.0F - f) + hi * f;
}

/* Horizontal: bias and the three taps at large column x, zeros outside. rows: three small rows, `plane` apart, pixels `step` apart. */
BODY_TARGET BODY_REAL BODY(across)(const BODY_REAL *rows, size_t plane, size_t step, const struct upconv_source *src,
                                   int x, int large_w, BODY_REAL bias)
{
    BODY_REAL v = bias;
#pragma GCC unroll 3
    for (int kx = 0; kx < 3; kx++) {
        int at = x + kx - 1;
        if (at < 0 || at >= large_w)
            continue;
        const BODY_REAL *row = rows + (size_t)kx * plane;
        v += BODY(blend)(row[(size_t)src[at].lo * step], row[(size_t)src[at].hi * step], src[at].f);
    }
    return v;
}
