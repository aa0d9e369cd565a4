"""What a retraining brings on footage unlike the training photos, end to end over HTTP.

  python tests/bench/retrain_quality.py KIND [--clips 8] [--unseen 3] [--frames 60] [--minutes 12] [--salient build/salient]

Makes clips of a kind (kinds.py), uploads all but the unseen ones, masks one frame in twenty, propagates, retrains with the defaults,
and prints S, MAE and max F of the old and the new champion on the unseen clips, and whether a rollback brings the old maps back.
"""

import argparse
import io
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import zipfile

import requests

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import kinds  # noqa: E402


def start(salient, data):
    log = open(data.parent / "service.log", "w+")
    p = subprocess.Popen([salient, "serve", "--listen", "127.0.0.1:0", "--data", str(data)], stderr=log)
    while True:
        time.sleep(0.2)
        found = re.search(r"msg=listening url=(\S+)", (data.parent / "service.log").read_text())
        if found:
            return p, found.group(1)


def finish(url, job):
    while True:
        j = requests.get(f"{url}/v1/jobs/{job}", timeout=60).json()
        if j["state"] in ("succeeded", "failed", "canceled"):
            assert j["state"] == "succeeded", j
            return j
        time.sleep(1)


def zipped(folder):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for f in sorted(folder.iterdir()):
            z.write(f, f.name)
    return out.getvalue()


def annotate(url, project, work, name, step):
    r = requests.post(f"{url}/v1/projects/{project}/clips", files={"clip": (f"{name}.zip", zipped(work / "JPEGImages" / name))}, timeout=300)
    r.raise_for_status()
    base = f"{url}/v1/projects/{project}/clips/{r.json()['id']}"
    masks = sorted((work / "Annotations" / name).iterdir())
    for n in range(0, len(masks), step):
        requests.put(f"{base}/keyframes/{n}", data=masks[n].read_bytes(), timeout=60,
                     headers={"Content-Type": "image/png", "If-None-Match": "*"}).raise_for_status()
    finish(url, requests.post(f"{base}/propagate", json={"model": "fgplg-lite"}, timeout=60).json()["id"])


def maps_of(url, work, name):
    r = requests.post(f"{url}/v1/saliency", files={"clip": (f"{name}.zip", zipped(work / "JPEGImages" / name))}, timeout=300)
    job = finish(url, r.json()["id"])
    return requests.get(f"{url}/v1/jobs/{job['id']}/maps.zip", timeout=300).content


def measure(salient, url, work, names, tag):
    zips = {}
    for name in names:
        zips[name] = maps_of(url, work, name)
        out = work / tag / name
        out.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(io.BytesIO(zips[name])) as z:
            for entry in z.namelist():
                if entry.endswith(".png"):
                    (out / pathlib.Path(entry).name).write_bytes(z.read(entry))
    report = subprocess.run([salient, "eval", "--pred", str(work / tag), "--gt", str(work / "gt"), "--format", "json"],
                            capture_output=True, text=True, check=True)
    overall = json.loads(report.stdout)["overall"]
    return {m: round(overall[m], 4) for m in ("s_measure", "mae", "max_f")}, zips


def main():
    p = argparse.ArgumentParser()
    p.add_argument("kind")
    p.add_argument("--clips", type=int, default=8)
    p.add_argument("--unseen", type=int, default=3)
    p.add_argument("--frames", type=int, default=60)
    p.add_argument("--minutes", type=float, default=12)
    p.add_argument("--steps", type=int)
    p.add_argument("--salient", default="build/salient")
    a = p.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        names = [f"{a.kind}-{n:02d}" for n in range(a.clips + a.unseen)]
        for n, name in enumerate(names):
            kinds.write_clip(a.kind, work, name, a.frames, 1000 + n)
        (work / "gt").mkdir()
        for name in names[a.clips:]:
            (work / "gt" / name).symlink_to(work / "Annotations" / name)
        service, url = start(a.salient, work / "data")
        try:
            before, old = measure(a.salient, url, work, names[a.clips:], "before")
            project = requests.post(f"{url}/v1/projects", json={"name": a.kind}, timeout=60).json()["id"]
            for name in names[:a.clips]:
                annotate(url, project, work, name, 20)
            began = time.monotonic()
            params = {"minutes": a.minutes, **({"steps": a.steps} if a.steps else {})}
            job = requests.post(f"{url}/v1/projects/{project}/retrain", json=params, timeout=60).json()
            out = finish(url, job["id"])["outputs"]
            took = time.monotonic() - began
            after, _ = measure(a.salient, url, work, names[a.clips:], "after")
            curves = requests.get(f"{url}/v1/jobs/{job['id']}/curves", timeout=60).json()["curves"]
            requests.post(f"{url}/v1/models/rcrnet-lite/rollback", timeout=60).raise_for_status()
            _, again = measure(a.salient, url, work, names[a.clips:], "again")
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)
        print(json.dumps({"kind": a.kind, "labels": out["snapshot"], "minutes": round(took / 60, 1), "steps": curves["loss"][-1][0],
                          "promoted": out["promoted"], "reason": out["reason"], "unseen_before": before, "unseen_after": after,
                          "rollback_restores_the_maps": again == old}, indent=1))


if __name__ == "__main__":
    main()
