"""Speed of `salient eval` against PySODMetrics and davis2017-evaluation's J and F, on made-up DAVIS-sized sequences.

Both read the same PNG files. The reference measures a sample of the frames in one process, as it does in use; salient
measures all of them, on all cores. Runs alternate, the median of each counts. Prints one line of JSON.

Needs pysodmetrics==1.6.2 (and the OpenCV and scikit-image it brings).
usage: SALIENT=build/salient python tests/bench/eval_speed.py [--frames 1376] [--sample 60] [--rounds 3]
"""
import argparse
import json
import os
import resource
import statistics
import subprocess
import tempfile
import time
import warnings

import cv2
import numpy as np
from skimage.morphology import disk

warnings.filterwarnings("ignore")
import py_sod_metrics as tool  # noqa: E402

W, H = 854, 480


def make_set(root, frames, sequences=20):
    """Textured blobs that move; predictions are their blurred, shifted, noisy copies."""
    rng = np.random.RandomState(7)
    y, x = np.mgrid[0:H, 0:W].astype(np.float32)
    pairs = []
    for s in range(sequences):
        cx, cy, r = rng.uniform(200, 650), rng.uniform(150, 330), rng.uniform(50, 150)
        wobble = cv2.GaussianBlur(rng.randn(H, W).astype(np.float32), (0, 0), 12) * 12
        n = frames // sequences + (s < frames % sequences)
        for side in ("gt", "pred"):
            os.makedirs(f"{root}/{side}/seq{s:02d}", exist_ok=True)
        for t in range(n):
            d = np.hypot(x - cx - 2 * t, y - cy) * (1 + wobble * 0.3)
            g = ((d < r) * 255).astype(np.uint8)
            p = cv2.GaussianBlur(np.roll(g, rng.randint(-5, 6), 1), (0, 0), 5).astype(np.float32)
            p = p * 0.9 + np.clip(wobble * 60, 0, 40) * (rng.rand() < 0.5)
            names = [f"{root}/{side}/seq{s:02d}/{t:05d}.png" for side in ("pred", "gt")]
            cv2.imwrite(names[0], np.clip(p, 0, 255).astype(np.uint8))
            cv2.imwrite(names[1], g)
            pairs.append(names)
    return pairs


def boundary(m):
    e, s, se = np.zeros_like(m), np.zeros_like(m), np.zeros_like(m)
    e[:, :-1], s[:-1], se[:-1, :-1] = m[:, 1:], m[1:], m[1:, 1:]
    b = (m ^ e) | (m ^ s) | (m ^ se)
    b[-1], b[:, -1] = m[-1] ^ e[-1], m[:, -1] ^ s[:, -1]
    b[-1, -1] = False
    return b


def davis(p, g):
    union = (p | g).sum()
    j = (p & g).sum() / union if union else 1.0
    k = disk(int(np.ceil(0.008 * np.hypot(*p.shape)))).astype(np.uint8)
    a, b = boundary(p), boundary(g)
    da, db = cv2.dilate(a.astype(np.uint8), k), cv2.dilate(b.astype(np.uint8), k)
    if not a.any() or not b.any():
        return j, float(a.any() == b.any())
    precision, recall = (a * db).sum() / a.sum(), (b * da).sum() / b.sum()
    return j, 2 * precision * recall / max(precision + recall, 1e-300)


def reference(pairs):
    meters = [tool.MAE(), tool.Smeasure(), tool.Fmeasure(), tool.Emeasure(), tool.WeightedFmeasure()]
    t, c = time.perf_counter(), time.process_time()
    jf = []
    for pred, gt in pairs:
        p, g = cv2.imread(pred, cv2.IMREAD_GRAYSCALE), cv2.imread(gt, cv2.IMREAD_GRAYSCALE)
        for m in meters:
            m.step(p, g)
        jf.append(davis(p >= 128, g > 128))
    return (time.perf_counter() - t) / len(pairs), (time.process_time() - c) / len(pairs)


def children():
    u = resource.getrusage(resource.RUSAGE_CHILDREN)
    return u.ru_utime + u.ru_stime


def salient(root):
    t, c = time.perf_counter(), children()
    out = subprocess.run([os.environ.get("SALIENT", "build/salient"), "eval", "--pred", f"{root}/pred", "--gt", f"{root}/gt"],
                         stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - t, children() - c, json.loads(out.stdout)


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--frames", type=int, default=1376)
    a.add_argument("--sample", type=int, default=60)
    a.add_argument("--rounds", type=int, default=3)
    a = a.parse_args()
    with tempfile.TemporaryDirectory() as root:
        pairs = make_set(root, a.frames)
        sample = pairs[:: max(1, len(pairs) // a.sample)]
        theirs, ours = [], []
        for _ in range(a.rounds):
            theirs.append(reference(sample))
            wall, cpu, result = salient(root)
            ours.append((wall / len(pairs), cpu / len(pairs)))
        them, them_cpu = (statistics.median(v) for v in zip(*theirs))
        us, us_cpu = (statistics.median(v) for v in zip(*ours))
        rss = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
        print(json.dumps({"frames": len(pairs), "reference_ms_per_frame": round(them * 1e3, 2),
                          "salient_ms_per_frame": round(us * 1e3, 3), "ratio": round(them / us, 1),
                          "reference_cpu_ms": round(them_cpu * 1e3, 2), "salient_cpu_ms": round(us_cpu * 1e3, 3),
                          "cpu_ratio": round(them_cpu / (us_cpu / os.cpu_count()), 1),
                          "salient_peak_mb": rss, "cores": os.cpu_count(), "mae": result["overall"]["mae"]}))


if __name__ == "__main__":
    main()
