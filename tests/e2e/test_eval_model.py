"""POST /eval of stored models on stored datasets, evaluations as jobs, and the plots of baselines."""

import io
import json
import pathlib
import subprocess
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import BINARY, assert_problem, wait_for
from test_eval_api import image_zip, pairs
from test_projects import Project, add_labels, clip_zip, mask

MODEL = {"model": "rcrnet-lite", "size": 64}
LENGTHS = {"bear": 5, "cows": 4}


def encode(pixels, kind):
    b = io.BytesIO()
    Image.fromarray(pixels).save(b, kind)
    return b.getvalue()


def scene(t):
    y, x = np.mgrid[:48, :72]
    d = np.hypot(x - 20 - 4 * t, y - 24)
    picture = np.stack([x, y, x + y], -1).astype(np.uint8) // 2
    picture[d < 12] = (250, 220, 40)
    return picture, ((d < 12) * 255).astype(np.uint8)


def members(picture="DAVIS/JPEGImages/480p/{}/{:05d}.jpg", mask="DAVIS/Annotations/480p/{}/{:05d}.png", lengths=LENGTHS, without=()):
    out = {}
    for name, n in lengths.items():
        for t in range(n):
            p, m = scene(t)
            out[picture.format(name, t)] = encode(p, "JPEG")
            if (name, t) not in without:
                out[mask.format(name, t)] = encode(m, "PNG")
    return out


def pack(files):
    b = io.BytesIO()
    with zipfile.ZipFile(b, "w") as z:
        for name, data in files.items():
            z.writestr(name, data)
    return b.getvalue()


def put(service, name, data, status=(200, 201)):
    r = service.request("PUT", f"/v1/datasets/{name}", data=data, headers={"Content-Type": "application/zip"})
    assert r.status_code in status, r.text
    return r.json()


def test_a_model_measures_as_detect_and_eval_do(service, tmp_path):
    without = {("bear", 2)}  # seen by the model, not measured
    files = members(without=without)
    stored = put(service, "toy", pack(files))
    assert (stored["sequences"], stored["frames"], stored["masks"]) == (2, 9, 8)
    got = service.post("/eval", json={**MODEL, "dataset": "toy", "protocol": "davis", "skip": "none", "per_frame": True})
    assert got.status_code == 200, got.text
    got = got.json()
    assert got["model"].startswith("rcrnet-lite@") and (got["data"], got["frames"]) == ("dataset toy", 8)
    for side, folder in (("JPEGImages", "in"), ("Annotations", "gt")):
        (tmp_path / folder).mkdir()
        for path, data in files.items():
            if f"{side}/480p/bear/" in path:
                (tmp_path / folder / pathlib.Path(path).name).write_bytes(data)
    subprocess.run([BINARY, "detect", tmp_path / "in", "-o", tmp_path / "pred", "-m", "rcrnet-lite", "--size", "64"],
                   check=True, capture_output=True)
    (tmp_path / "pred" / "00002.png").unlink()
    want = subprocess.run([BINARY, "eval", "--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "--protocol", "davis",
                           "--skip", "none", "--per-frame"], check=True, capture_output=True)
    want = json.loads(want.stdout)
    bear = next(s for s in got["sequences"] if s["name"] == "bear")
    assert {**bear, "name": ""} == want["sequences"][0]
    assert got["protocol"] == want["protocol"]


def test_a_project_measures_its_accepted_labels(service, tmp_path):
    project = Project(service, clip_zip(tmp_path / "walk.zip"))
    assert_problem(service.post("/eval", json={**MODEL, "project": project.id}), 422, "bad_data")  # no labels yet
    project.put(0, mask(5), If_None_Match="*")
    project.put(10, mask(15, label=1), If_None_Match="*")
    add_labels(service, project, (4, 6), lambda f: 0.9)
    r = service.request("PATCH", f"{project.base}/labels/4", json={"state": "accepted"})
    assert r.status_code == 200, r.text
    got = service.post("/eval", json={**MODEL, "project": project.id, "per_frame": True})
    assert got.status_code == 200, got.text
    got = got.json()
    frames = ["00000", "00004", "00010"]
    assert [f["frame"] for f in got["sequences"][0]["per_frame"]] == frames
    assert got["sequences"][0]["name"].startswith("walk-") and got["protocol"]["gt_threshold"] == 0
    job = service.post("/v1/saliency", json={"clip_id": project.clip["id"], "size": 64, "model": "rcrnet-lite"}).json()
    service.finish(job["id"])
    for side in ("pred", "gt"):
        (tmp_path / side).mkdir()
    for f in frames:
        (tmp_path / "pred" / f"{f}.png").write_bytes(service.get(f"/v1/jobs/{job['id']}/maps/{int(f)}.png").content)
        (tmp_path / "gt" / f"{f}.png").write_bytes(service.get(f"{project.base}/labels/{int(f)}.png").content)
    want = subprocess.run([BINARY, "eval", "--pred", tmp_path / "pred", "--gt", tmp_path / "gt", "--gt-threshold", "0"],
                          check=True, capture_output=True)
    assert got["overall"] == json.loads(want.stdout)["overall"]
    assert_problem(service.post("/eval", json={**MODEL, "project": "0" * 26}), 422, "no_such_project")


def test_photos_are_seen_alone(service):
    """The same pictures as photos: no neighbours, so another order gives the same maps."""
    names = {"picture": "images/{1:03d}{0}.jpg", "mask": "masks/{1:03d}{0}.png", "lengths": {"x": 2}}
    assert put(service, "photos", pack(members(**names)))["sequences"] == 0
    one = service.post("/eval", json={**MODEL, "dataset": "photos", "per_frame": True}).json()
    files = members(**names)
    renamed = {k.replace("/000", "/z"): v for k, v in files.items()}
    put(service, "photos", pack(renamed))
    two = service.post("/eval", json={**MODEL, "dataset": "photos", "per_frame": True}).json()
    first, other = ({f["frame"].replace("z", "000"): f["mae"] for f in e["sequences"][0]["per_frame"]} for e in (one, two))
    assert len(first) == 2 and first == other


def test_jobs_and_their_reports(service):
    put(service, "toy", pack(members()))
    ask = {**MODEL, "dataset": "toy", "min": "s_measure:1.5"}
    r = service.post("/eval", json=ask, headers={"Prefer": "respond-async"})
    assert r.status_code == 202 and r.json()["kind"] == "eval" and r.headers["Location"] == f"/v1/jobs/{r.json()['id']}"
    job = service.finish(r.json()["id"])
    assert job["state"] == "succeeded" and job["progress"] == {"done": 9, "total": 9, "unit": "frames"}
    assert job["outputs"]["pass"] is False and job["outputs"]["gates"][0]["status"] == "fail"
    report = service.get(job["outputs"]["report"]).json()
    assert report["overall"] == job["outputs"]["overall"] and len(report["curves"]["f"]) == 256
    junit = service.get(job["outputs"]["report"], headers={"Accept": "application/junit+xml"})
    assert ET.fromstring(junit.content).get("failures") == "1"
    r = service.post("/eval", json={**ask, "on_fail": 422}, headers={"Accept": "text/markdown"})
    assert r.status_code == 422 and "**FAIL**" in r.text and "rcrnet-lite" in r.text
    wait_for("working files to go", lambda: not service.temp_files(), 10)


def test_zips_as_a_job(service):
    pred, gt = pairs()
    zips = {"pred": ("p.zip", image_zip(pred)), "gt": ("g.zip", image_zip(gt))}
    now = service.post("/eval", files=zips, params={"protocol": "davsod", "skip": "none"}).json()
    base = {"baseline": ("b.json", json.dumps(now))}
    headers = {"Prefer": "respond-async", "Idempotency-Key": "nightly-1"}
    ask = {"protocol": "davsod", "skip": "none", "max_drop": "mae:0"}
    r = service.post("/eval", files={**zips, **base}, params=ask, headers=headers)
    assert r.status_code == 202, r.text
    job = service.finish(r.json()["id"])
    report = service.get(f"/v1/jobs/{job['id']}/report").json()
    assert report["overall"] == now["overall"] and report["gates"][0]["drop"] == 0
    again = service.post("/eval", files={**zips, **base}, params=ask, headers=headers)
    assert again.status_code == 202 and again.json()["id"] == job["id"]
    other = service.post("/eval", files={**zips, **base, "pred": ("p.zip", image_zip(gt))}, params=ask, headers=headers)
    assert_problem(other, 409, "idempotency_conflict")
    assert service.request("DELETE", f"/v1/jobs/{job['id']}").status_code == 204
    broken = image_zip(pred)[:-40]
    r = service.post("/eval", files={**zips, "pred": ("p.zip", broken)}, headers={"Prefer": "respond-async, wait=30"})
    assert r.status_code == 202 and r.json()["state"] == "failed", r.text
    assert r.json()["error"]["code"] == "corrupt" and r.json()["error"]["message"].startswith("pred: ")
    assert_problem(service.get(f"/v1/jobs/{r.json()['id']}/report"), 422, "bad_data")


@pytest.mark.parametrize("change, says", [
    ({"images/b/0.jpg": None}, "mask masks/b/0.png has no picture"),
    ({"masks/a/0.jpg": b"x"}, "two files for one frame: masks/a/0.png and masks/a/0.jpg"),
    ({"images/a/0.tif": b"x"}, "images/a/0.tif is not a PNG or JPEG"),
    ({"masks/a/0.png": None, "masks/b/0.png": None}, "no masks"),
    ({"images/../../x.jpg": b"x"}, ".."),
])
def test_bad_datasets_are_refused_by_name(service, change, says):
    files = {f"{side}/{s}/0.{ext}": b"x" for s in "ab" for side, ext in (("images", "jpg"), ("masks", "png"))}
    r = service.request("PUT", "/v1/datasets/bad", data=pack({k: v for k, v in {**files, **change}.items() if v is not None}),
                        headers={"Content-Type": "application/zip"})
    assert_problem(r, 422)
    assert says in r.json()["detail"] and "/tmp" not in r.json()["detail"], r.json()
    assert service.get("/v1/datasets/bad").status_code == 404


def test_requests_that_cannot_work_say_why(service):
    put(service, "wrong", pack({"images/a/0.jpg": b"no picture", "masks/a/0.png": b"no mask"}))
    r = service.post("/eval", json={**MODEL, "dataset": "wrong"})
    assert_problem(r, 422, "bad_data")
    assert r.json()["detail"].startswith("sequence a: ") and str(service.data) not in r.json()["detail"], r.json()
    assert_problem(service.post("/eval", json={**MODEL, "dataset": "none"}), 422, "no_such_dataset")
    assert_problem(service.post("/eval", json={"model": "none", "dataset": "wrong"}), 422, "no_such_model")
    assert_problem(service.post("/eval", json={"model": "../x", "dataset": "wrong"}), 422, "no_such_model")
    assert_problem(service.post("/eval", json=MODEL), 400)
    assert_problem(service.post("/eval", json={**MODEL, "dataset": "a", "project": "b"}), 400)
    assert_problem(service.post("/eval", json={"dataset": "wrong"}), 400)
    assert_problem(service.request("PUT", "/v1/datasets/a%20b", data=b"x", headers={"Content-Type": "application/zip"}), 400)
    assert_problem(service.request("PUT", "/v1/datasets/a", data=b"x", headers={"Content-Type": "application/zip"}), 422)
    assert_problem(service.request("PUT", "/v1/datasets/a", json={}), 415)


def test_lists_and_removal(service):
    for name in ("alpha", "beta"):
        put(service, name, pack(members(lengths={"a": 1})))
    page = service.get("/v1/datasets", params={"limit": 1}).json()
    assert [d["name"] for d in page["items"]] == ["alpha"] and page["next_cursor"] == "alpha"
    assert service.get("/v1/datasets", params={"cursor": "alpha", "limit": 1}).json()["items"][0]["name"] == "beta"
    assert service.request("DELETE", "/v1/datasets/alpha").status_code == 204
    assert service.request("DELETE", "/v1/datasets/alpha").status_code == 404
    assert service.get("/v1/datasets/beta").json()["masks"] == 1


def test_plots_of_baselines(service):
    pred, gt = pairs()
    files = {"pred": ("p.zip", image_zip(pred)), "gt": ("g.zip", image_zip(gt))}
    report = service.post("/eval", files=files).json()
    for _ in range(3):
        report["overall"]["mae"] *= 0.9
        assert service.request("PUT", "/v1/baselines/plotted", json=report).status_code in (200, 201)
    trend = service.get("/v1/baselines/plotted/trend.svg", params={"metrics": "mae,max_f"})
    assert trend.headers["Content-Type"].startswith("image/svg+xml")
    svg = ET.fromstring(trend.content)
    assert len(svg.findall(".//{*}circle")) == 6 and f"mae {report['overall']['mae']:.4f}" in trend.text
    curves = service.get("/v1/baselines/plotted/curves.svg")
    assert len(ET.fromstring(curves.content).findall(".//{*}polyline")) == 3
    assert_problem(service.get("/v1/baselines/plotted/trend.svg", params={"metrics": "quality"}), 400)
    assert_problem(service.get("/v1/baselines/none/trend.svg"), 404)
