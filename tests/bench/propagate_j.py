#!/usr/bin/env python3
"""Propagation quality: mean J over the frames between keyframes, per sequence, of the real binary.

  tests/bench/propagate_j.py [--salient build/salient] [--data DIR] [--step 10,5] [--seq bear,...] [--paths "name=flags;name=flags"]

DIR holds JPEGImages/<sequence> and Annotations/<sequence> as DAVIS 2016 does. Beside J it prints the speed (frames/s as the
command reports it, processor milliseconds per label) and Spearman's correlation of the confidence with J over all labelled frames.
"""
import argparse
import json
import os
import re
import resource
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image


def mask(path):
    return np.asarray(Image.open(path).convert("L")) > 127


def j(a, b):
    union = (a | b).sum()
    return 1.0 if union == 0 else (a & b).sum() / union


def rank(v):
    order = np.argsort(v, kind="stable")
    r = np.empty(len(v))
    r[order] = np.arange(len(v))
    for x in np.unique(v):  # ties share their mean rank
        at = np.asarray(v) == x
        r[at] = r[at].mean()
    return r


def spearman(a, b):
    return float(np.corrcoef(rank(a), rank(b))[0, 1]) if len(a) > 2 else float("nan")


def run(salient, data, seq, step, flags):
    """J and confidence of every frame between keyframes, frames per second, processor milliseconds per label."""
    images, truth = data / "JPEGImages" / seq, data / "Annotations" / seq
    stems = sorted(p.stem for p in images.iterdir())
    keys = list(range(0, len(stems), step))
    with tempfile.TemporaryDirectory() as d:
        kf, out = Path(d, "keys"), Path(d, "out")
        kf.mkdir()
        for k in keys:
            os.symlink(truth / f"{stems[k]}.png", kf / f"{stems[k]}.png")
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([salient, "propagate", "--frames", images, "--keyframes", kf, "-o", out, *flags],
                              capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        speed = float(re.findall(r"([\d.]+) frames/s", done.stderr)[-1])
        labels = {l["frame"]: l for l in json.load(open(out / "labels.json"))}
        rows = []
        for k in range(keys[0], keys[-1]):
            if k % step:
                rows.append((float(j(mask(out / f"{stems[k]}.png"), mask(truth / f"{stems[k]}.png"))), labels[k]["confidence"]))
        cpu_ms = 1000 * cpu / sum(l["source"] == "pseudo" for l in labels.values())
    return rows, speed, cpu_ms


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parents[2]
    p.add_argument("--salient", default=str(root / "build/salient"))
    p.add_argument("--data", default=os.environ.get("SALIENT_SHARED", str(root.parent / "shared")) + "/data/video")
    p.add_argument("--step", default="10,5")
    p.add_argument("--seq", default="blackswan,bmx-trees,car-roundabout,dance-twirl,libby,bear")
    p.add_argument("--paths", default="flow=--model none", help='configurations: "name=flags;name=flags"')
    p.add_argument("--dump", help="append every frame's values to this file, one JSON array a line")
    a = p.parse_args()
    seqs = a.seq.split(",")
    print(f"{'':24}" + "".join(f"{s[:10]:>12}" for s in seqs) + f"{'mean':>9}{'fps':>7}{'cpu ms':>8}{'rho':>7}")
    for step in map(int, a.step.split(",")):
        for path in a.paths.split(";"):
            name, flags = path.split("=", 1)
            means, speeds, cpus, every = [], [], [], []
            for s in seqs:
                rows, speed, cpu = run(a.salient, Path(a.data), s, step, flags.split())
                means.append(np.mean([r[0] for r in rows]))
                speeds.append(speed)
                cpus.append(cpu)
                every += rows
                if a.dump:
                    with open(a.dump, "a") as f:
                        f.writelines(json.dumps([name, s, step, *r]) + "\n" for r in rows)
            rho = spearman([r[1] for r in every], [r[0] for r in every])
            print(f"{f'{name} @{step}':24}" + "".join(f"{m:12.3f}" for m in means) +
                  f"{np.mean(means):9.4f}{np.mean(speeds):7.1f}{np.mean(cpus):8.0f}{rho:7.3f}", flush=True)


if __name__ == "__main__":
    main()
