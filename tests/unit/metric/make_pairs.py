"""Writes pairs.inc: small image pairs, by formula, with the values the reference tools give for them.

Needs pysodmetrics==1.6.2 (S, F, E, weighted F, MAE); J and the boundary F are written out here in numpy, after the
definitions of davis2017-evaluation. The formulas of pixels stand again in test_metric.c.
usage: python make_pairs.py > pairs.inc
"""
import warnings

import numpy as np

warnings.filterwarnings("ignore")
import py_sod_metrics as tool  # noqa: E402

SIZES = [(1, 1), (1, 7), (9, 1), (2, 2), (3, 3), (5, 8), (16, 16), (23, 17), (40, 31), (64, 48), (130, 90), (200, 3), (3, 200), (1, 40)]


def stream(seed):
    state = seed & 0xFFFFFFFF or 1
    while True:
        state ^= (state << 13) & 0xFFFFFFFF
        state ^= state >> 17
        state ^= (state << 5) & 0xFFFFFFFF
        yield state >> 8


def ground_truth(kind, w, h, seed):
    r = stream(seed)
    g = np.zeros((h, w), np.uint8)
    if kind == 1:
        g[:] = 255
    elif kind == 2:
        g[next(r) % h, next(r) % w] = 255
    elif kind == 3:
        y, x = next(r) % h, next(r) % w
        g[y : y + 1 + next(r) % h, x : x + 1 + next(r) % w] = 255
    elif kind == 4:
        for y in range(h):
            for x in range(w):
                g[y, x] = 255 if (x + y) % 2 else 0
    elif kind == 5:
        for y in range(h):
            for x in range(w):
                g[y, x] = 126 + next(r) % 6
    elif kind == 7:
        g[-1] = 255
    elif kind == 8:
        g[:, -1] = 255
    elif kind == 9:
        g[-1, -1] = 255
    elif kind == 10:
        g[:] = 255
        g[next(r) % h, next(r) % w] = 0
    elif kind == 6:
        cy, cx, q = h / 2, w / 2, (h * h + w * w) / 30
        for y in range(h):
            for x in range(w):
                g[y, x] = 255 if (y - cy) ** 2 + (x - cx) ** 2 < q else 0
    return g


def prediction(kind, g, seed):
    r = stream(seed + 77)
    h, w = g.shape
    p = np.zeros((h, w), np.uint8)
    level = [next(r) % 256, next(r) % 256]
    for y in range(h):
        for x in range(w):
            fg = g[y, x] > 128
            p[y, x] = [
                0,
                level[0],
                g[y, x],
                255 - g[y, x],
                next(r) % 256 if kind == 4 else 0,
                level[1] if fg else level[0],
                (180 if fg else 20) + (next(r) % 60 if kind == 6 else 0),
                level[0] if 2 * y < h else level[1],
                x * 255 // max(w - 1, 1),
                level[1] if x == y else level[0],
                255 if fg else 127 + next(r) % 3 if kind == 10 else 0,
            ][kind]
    return p


def bmap(m):
    e, s, se = m.copy(), m.copy(), m.copy()
    e[:, :-1], s[:-1], se[:-1, :-1] = m[:, 1:], m[1:], m[1:, 1:]
    e[:, -1] = s[-1] = False
    se[-1] = se[:, -1] = False
    b = (m ^ e) | (m ^ s) | (m ^ se)
    b[-1], b[:, -1] = m[-1] ^ e[-1], m[:, -1] ^ s[:, -1]
    b[-1, -1] = False
    return b


def dilate(b, r):
    h, w = b.shape
    out = np.zeros_like(b)
    for dy in range(-r, r + 1):
        for dx in range(-r, r + 1):
            if dx * dx + dy * dy <= r * r and abs(dy) < h and abs(dx) < w:
                out[max(dy, 0) : h + min(dy, 0), max(dx, 0) : w + min(dx, 0)] |= b[
                    max(-dy, 0) : h + min(-dy, 0), max(-dx, 0) : w + min(-dx, 0)
                ]
    return out


def boundary_f(a, b, tolerance=0.008):
    r = int(np.ceil(tolerance * np.hypot(*a.shape)))
    a, b = bmap(a), bmap(b)
    if not a.any() or not b.any():
        return float(a.any() == b.any())
    precision, recall = (a & dilate(b, r)).sum() / a.sum(), (b & dilate(a, r)).sum() / b.sum()
    return 0.0 if precision + recall == 0 else 2 * precision * recall / (precision + recall)


def measure(p, g):
    m, s, f, e, w = tool.MAE(), tool.Smeasure(), tool.Fmeasure(), tool.Emeasure(), tool.WeightedFmeasure()
    for t in (m, s, f, e, w):
        t.step(p, g)
    fc, ec = f.changeable_fms[0], e.changeable_ems[0]
    a, b = p >= 128, g > 128
    j = (a & b).sum() / (a | b).sum() if (a | b).any() else 1.0
    return [m.maes[0], s.sms[0], w.weighted_fms[0], f.adaptive_fms[0], e.adaptive_ems[0], fc.max(), fc.mean(), ec.max(),
            ec.mean(), j, boundary_f(a, b)]


def main():
    print("/* Made by make_pairs.py with PySODMetrics 1.6.2, numpy %s. */" % np.__version__)
    n = 0
    for w, h in SIZES:
        for gk in range(11):
            for pk in range(11):
                n += 1
                if n % 3 and w * h > 4:
                    continue
                g = ground_truth(gk, w, h, n)
                v = measure(prediction(pk, g, n), g)
                text = ", ".join("NAN" if np.isnan(x) else repr(float(x)) for x in v)
                print("{%d, %d, %d, %d, %d, {%s}}," % (w, h, gk, pk, n, text))


if __name__ == "__main__":
    main()
