#!/usr/bin/env python3
"""How long an annotator waits: storing a mask, listing labels, counting, exporting. Run: build/venv/bin/python tests/bench/project_speed.py"""

import io
import pathlib
import sqlite3
import statistics
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "e2e"))
from conftest import Service  # noqa: E402

LABELS, KEY_EVERY, VERSIONS, PUTS = 10000, 500, 50, 100


def seconds(call, times=5):
    took = []
    for _ in range(times):
        start = time.perf_counter()
        r = call()
        took.append(time.perf_counter() - start)
        assert r.status_code < 300, r.text
    return statistics.median(took)


def png(width, height, n):
    a = np.zeros((height, width), np.uint8)
    a[height // 4:height // 2, width // 4 + n:width // 2 + n] = 255
    b = io.BytesIO()
    Image.fromarray(a).save(b, "PNG")
    return b.getvalue()


def fill(db, project, clip):
    """A long clip: labels between keyframes that were saved often, as autosave does."""
    keys = [*range(0, LABELS, KEY_EVERY), LABELS - 1]
    db.execute("INSERT INTO clips (id, sha256, frames, width, height, fps, duration_s, bytes, created_ms)"
               " VALUES (?, 'a', ?, 64, 48, 25, 1, 1, 1)", (clip, LABELS))
    db.execute("INSERT INTO project_clips VALUES (?, ?, 1)", (project, clip))
    db.executemany("INSERT INTO masks (project_id, clip_id, frame, version, sha256, created_ms) VALUES (?, ?, ?, ?, 'b', 1)",
                   [(project, clip, k, v) for k in keys for v in range(1, VERSIONS + 1)])
    rows = [(project, clip, f, "manual" if f in keys else "pseudo", f - f % KEY_EVERY, min(LABELS - 1, f - f % KEY_EVERY + KEY_EVERY),
             VERSIONS, VERSIONS) for f in range(LABELS)]
    db.executemany("INSERT INTO labels (project_id, clip_id, frame, source, state, confidence, left_frame, right_frame, left_version,"
                   " right_version, sha256, updated_ms) VALUES (?, ?, ?, ?, 'proposed', 0.5, ?, ?, ?, ?, 'b', 1)", rows)


def main():
    with tempfile.TemporaryDirectory() as d:
        s = Service(pathlib.Path(d) / "data", ["--workers", 0], ready=False)
        with open(ROOT / "tests" / "data" / "demo.mp4", "rb") as f:
            clip = s.post("/v1/clips", files={"clip": f}).json()
        project = s.post("/v1/projects", json={"name": "speed"}).json()["id"]
        s.post(f"/v1/projects/{project}/clips", json={"clip_id": clip["id"]})
        base = f"/v1/projects/{project}/clips/{clip['id']}"
        masks, tag, took = [png(clip["width"], clip["height"], n) for n in range(PUTS)], None, []
        for body in masks:
            condition = {"If-Match": tag} if tag else {"If-None-Match": "*"}
            start = time.perf_counter()
            r = s.request("PUT", f"{base}/keyframes/0", data=body, headers={"Content-Type": "image/png", **condition})
            took.append(time.perf_counter() - start)
            tag = r.headers["ETag"]
        print(f"PUT keyframe {clip['width']} x {clip['height']}: median {statistics.median(took) * 1e3:.1f} ms, worst {max(took) * 1e3:.1f} ms")
        t = seconds(lambda: s.get(f"/v1/projects/{project}/export?format=youtube-vos"), 3)
        print(f"export of a {clip['frames']}-frame video: {t:.2f} s, {clip['frames'] / t:.0f} frames/s")
        long = s.post("/v1/projects", json={"name": "long"}).json()["id"]
        db = sqlite3.connect(s.data / "salient.db", timeout=10)
        with db:
            fill(db, long, "0" * 26)
        base = f"/v1/projects/{long}/clips/{'0' * 26}"
        print(f"{LABELS} labels: list {seconds(lambda: s.get(base + '/labels')):.2f} s, count {seconds(lambda: s.get(base)):.3f} s,"
              f" suggest {seconds(lambda: s.get(base + '/suggest')):.3f} s,"
              f" accept all {seconds(lambda: s.post(base + '/labels/accept', json={'min_confidence': 0}), 1):.2f} s")
        s.stop()


if __name__ == "__main__":
    main()
