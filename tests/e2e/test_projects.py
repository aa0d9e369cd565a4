"""Annotation projects: settings, clips, keyframes, labels, suggestions, and who may overwrite whom."""

import concurrent.futures
import hashlib
import io
import os
import signal
import sqlite3
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import Service, assert_problem, make_video, wait_for
from test_access import add_key, bearer, key_id

W, H, FRAMES = 64, 48, 20


def clip_zip(path, frames=FRAMES, size=(W, H), shift=0):
    """A zip of JPEGs: a bright square that walks over noise."""
    rng = np.random.default_rng(7 + shift)
    with zipfile.ZipFile(path, "w") as z:
        for i in range(frames):
            a = rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
            a[10:30, 5 + i:25 + i] = (220, 60 + shift, 40)
            b = io.BytesIO()
            Image.fromarray(a).save(b, "JPEG", quality=90)
            z.writestr(f"{i:05d}.jpg", b.getvalue())
    return path


def png(image, **kw):
    b = io.BytesIO()
    image.save(b, "PNG", **kw)
    return b.getvalue()


def mask(x=10, size=(W, H), label=None, box=12):
    """A square object: grey 0/255, or a palette PNG with this label."""
    a = np.zeros((size[1], size[0]), np.uint8)
    a[10:10 + box, x:x + box] = label or 255
    image = Image.fromarray(a)
    if label:
        palette = Image.new("P", size)
        palette.putdata(a.ravel().tolist())
        palette.putpalette([v for i in range(256) for v in (i, 255 - i, i * 7 % 256)])
        image = palette
    return png(image)


PNG = {"Content-Type": "image/png"}


class Project:
    """A project of a service with one clip, and short names for its routes."""

    def __init__(self, service, clip_path, **settings):
        self.service = service
        with open(clip_path, "rb") as f:
            r = service.post("/v1/clips", files={"clip": f})
        assert r.status_code in (200, 201), r.text
        self.clip = r.json()
        r = service.post("/v1/projects", json={"name": "walk", **settings})
        assert r.status_code == 201, r.text
        self.doc, self.id = r.json(), r.json()["id"]
        r = service.post(f"/v1/projects/{self.id}/clips", json={"clip_id": self.clip["id"]})
        assert r.status_code == 201, r.text
        self.base = f"/v1/projects/{self.id}/clips/{self.clip['id']}"

    def put(self, frame, body, **headers):
        return self.service.request("PUT", f"{self.base}/keyframes/{frame}", data=body,
                                    headers={**PNG, **{k.replace("_", "-"): v for k, v in headers.items()}})

    def get(self, path, **kw):
        return self.service.get(f"{self.base}/{path}", **kw)

    def labels(self):
        return {x["frame"]: x for x in self.get("labels").json()}

    def audit(self):
        return self.service.get(f"/v1/projects/{self.id}/audit?limit=1000").json()["items"]


def add_labels(service, project, frames, confidence, left=0, right=10):
    """Pseudo-labels as a propagation leaves them, written into the database beside the running service."""
    db = sqlite3.connect(service.data / "salient.db", timeout=10)
    with db:
        for f in frames:
            body = mask(5 + f)
            sha = hashlib.sha256(body).hexdigest()
            blob = service.data / "blobs" / "masks" / sha
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(body)
            db.execute("INSERT OR REPLACE INTO labels (project_id, clip_id, frame, source, state, confidence, left_frame,"
                       " right_frame, left_version, right_version, model, flow, sha256, uncertainty_sha256, updated_ms)"
                       " VALUES (?, ?, ?, 'pseudo', 'proposed', ?, ?, ?, 1, 1, 'fgplg-lite', 'dis', ?, ?, 1)",
                       (project.id, project.clip["id"], f, confidence(f), left, right, sha, sha))
    db.close()


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory):
    return clip_zip(tmp_path_factory.mktemp("clips") / "walk.zip")


@pytest.fixture
def project(service, clip_path):
    return Project(service, clip_path)


# ---- settings -----------------------------------------------------------------------------------------------------


def test_project_settings(service):
    r = service.post("/v1/projects", json={"name": "a", "retrain": {"mode": "auto"}})
    assert r.status_code == 201 and r.headers["Location"] == f"/v1/projects/{r.json()['id']}"
    doc, etag = r.json(), r.headers["ETag"]
    assert doc["retrain"]["mode"] == "auto" and doc["retrain"]["min_new_labels"] == 50 and doc["version"] == 1
    url = r.headers["Location"]
    r = service.request("PATCH", url, json={"labels_per_interval": 3, "retrain": {"holdout": 0.3}}, headers={"If-Match": etag})
    assert r.status_code == 200 and r.json()["retrain"] == {"mode": "auto", "min_new_labels": 50, "holdout": 0.3}
    late = service.request("PATCH", url, json={"name": "b"}, headers={"If-Match": etag})
    assert_problem(late, 412, "precondition_failed")
    assert late.headers["ETag"] == r.headers["ETag"]
    assert service.request("PATCH", url, json={"name": "c"}).json()["name"] == "c"
    assert any(p["id"] == doc["id"] for p in service.get("/v1/projects?limit=1000").json()["items"])
    actions = [a["action"] for a in service.get(url + "/audit").json()["items"]]
    assert actions == ["project.update", "project.update", "project.create"]
    assert service.request("DELETE", url).status_code == 204
    assert_problem(service.get(url), 404)


@pytest.mark.parametrize("body", [
    {}, {"name": ""}, {"name": "  "}, {"name": 5}, {"name": "x" * 201}, {"name": "a\nb"}, {"name": "x", "color": 1},
    {"name": "x", "labels_per_interval": -1}, {"name": "x", "labels_per_interval": 1.5}, {"name": "x", "retrain": 1},
    {"name": "x", "retrain": {"mode": "never"}}, {"name": "x", "retrain": {"holdout": 0.9}},
    {"name": "x", "retrain": {"min_new_labels": 0}}, {"name": "x", "retrain": {"epochs": 1}}, [], "x"])
def test_bad_settings(service, body):
    assert_problem(service.post("/v1/projects", json=body), 400)


def test_clips_of_a_project(service, project, clip_path, tmp_path):
    url = f"/v1/projects/{project.id}/clips"
    assert service.post(url, json={"clip_id": project.clip["id"]}).status_code == 200
    assert_problem(service.post(url, json={"clip_id": "0" * 26}), 404)
    other = clip_zip(tmp_path / "b.zip", 3, shift=9)
    r = service.post(url, data=other.read_bytes(), headers={"Content-Type": "application/zip"})
    assert r.status_code == 201 and r.json()["frames"] == 3 and r.json()["counts"]["keyframes"] == 0
    page = service.get(url, params={"limit": 1}).json()
    rest = service.get(url, params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert {page["items"][0]["id"], rest["items"][0]["id"]} == {project.clip["id"], r.json()["id"]}
    assert rest["next_cursor"] is None
    assert_problem(service.request("DELETE", f"/v1/clips/{r.json()['id']}"), 409)
    assert service.request("DELETE", r.headers["Location"]).status_code == 204
    assert_problem(service.get(r.headers["Location"]), 404)
    assert service.request("DELETE", f"/v1/clips/{r.json()['id']}").status_code == 204


def test_frames_are_counted_when_a_clip_of_a_job_is_added(service, tmp_path):
    """What a container claims may be wrong; ordinals of masks need the true number."""
    path = make_video(tmp_path / "a.mp4", 12)
    job = service.submit(path)
    claimed = service.get(f"/v1/clips/{job['clip_id']}").json()["frames"]
    project = service.post("/v1/projects", json={"name": "x"}).json()["id"]
    db = sqlite3.connect(service.data / "salient.db", timeout=10)
    with db:
        db.execute("UPDATE clips SET frames = 99 WHERE id = ?", (job["clip_id"],))
    db.close()
    r = service.post(f"/v1/projects/{project}/clips", json={"clip_id": job["clip_id"]})
    assert r.status_code == 201 and r.json()["frames"] == 12 == claimed
    assert service.get(f"/v1/clips/{job['clip_id']}").json()["frames"] == 12


# ---- keyframes ----------------------------------------------------------------------------------------------------


def test_keyframe_life(project):
    first = mask(5)
    r = project.put(4, first, If_None_Match="*")
    assert r.status_code == 201 and r.json()["version"] == 1 and r.json()["objects"] == 1
    etag = r.headers["ETag"]
    got = project.get("keyframes/4")
    assert got.content == first and got.headers["ETag"] == etag and got.headers["Content-Type"] == "image/png"
    assert project.get("keyframes/4", headers={"If-None-Match": etag}).status_code == 304
    assert_problem(project.put(4, mask(6)), 428, "precondition_required")
    assert_problem(project.put(4, mask(6), If_None_Match="*"), 412, "precondition_failed")
    second = project.put(4, mask(6), If_Match=etag)
    assert second.status_code == 200 and second.json()["version"] == 2
    lost = project.put(4, mask(7), If_Match=etag)
    assert_problem(lost, 412)
    assert lost.headers["ETag"] == second.headers["ETag"]
    again = project.put(4, mask(6), If_Match=etag)  # the answer got lost: it has been done
    assert again.status_code == 200 and again.headers["ETag"] == second.headers["ETag"]
    assert project.get("keyframes/4?version=1").content == first
    assert [v["version"] for v in project.get("keyframes/4/versions").json()] == [1, 2]
    listed = project.get("keyframes").json()
    assert [(k["frame"], k["etag"]) for k in listed] == [(4, second.headers["ETag"])]
    assert project.labels()[4]["source"] == "manual" and project.labels()[4]["state"] == "accepted"
    assert project.get("labels/4.png").content == mask(6)
    url = f"{project.base}/keyframes/4"
    assert_problem(project.service.request("DELETE", url, headers={"If-Match": etag}), 412)
    assert project.service.request("DELETE", url, headers={"If-Match": second.headers["ETag"]}).status_code == 204
    assert_problem(project.get("keyframes/4"), 404)
    assert_problem(project.put(4, mask(6), If_Match=second.headers["ETag"]), 412)
    assert project.get("keyframes/4?version=2").content == mask(6)
    assert project.labels()[4]["source"] == "uncovered"
    assert project.put(4, mask(6), If_None_Match="*").json()["version"] == 4
    audit = project.audit()
    assert [a["action"] for a in audit if a["action"].startswith("keyframe")] == \
        ["keyframe.put", "keyframe.delete", "keyframe.put", "keyframe.put"]
    change = [a for a in audit if a["action"] == "keyframe.put"][1]
    assert change["before"]["version"] == 1 and change["after"]["version"] == 2 and change["after"]["frame"] == 4
    assert change["request_id"] == second.headers["X-Request-Id"]


GREY = np.zeros((H, W), np.uint8)
SOFT = GREY.copy()
SOFT[5:9, 5:9] = 255
SOFT[9, 5:9] = 128
LABELS = GREY.copy()
LABELS[1:3, 1:3], LABELS[5:7, 5:7] = 1, 2
ON = Image.fromarray(np.where(SOFT == 255, 255, 0).astype(np.uint8))


@pytest.mark.parametrize("body, objects", [
    (mask(), 1), (mask(label=7), 1), (png(ON.convert("1")), 1), (png(ON.convert("RGB")), 1), (png(ON.convert("RGBA")), 1),
    (png(Image.fromarray(GREY)), 0), (png(Image.fromarray(LABELS)), 2), (png(ON.convert("LA")), 1)])
def test_masks_that_are_taken(project, body, objects):
    r = project.put(0, body)
    assert r.status_code == 201 and r.json()["objects"] == objects, r.text
    assert project.get("keyframes/0").content == body


@pytest.mark.parametrize("body, status, code", [
    (mask(size=(W, H + 1)), 422, "mask_size"), (mask(size=(H, W)), 422, "mask_size"), (b"GIF89a" + bytes(60), 422, "mask_format"),
    (png(Image.fromarray(SOFT)), 422, "mask_format"), (png(Image.fromarray(SOFT).convert("RGB")), 422, "mask_format"),
    (png(Image.fromarray(np.dstack([SOFT, GREY, GREY]))), 422, "mask_format"),
    (png(Image.fromarray(SOFT.astype(np.uint16) * 257)), 422, "mask_format"),
    (mask()[:60], 422, None), (b"", 400, None)])
def test_masks_that_are_refused(project, body, status, code):
    assert_problem(project.put(0, body), status, code)
    assert project.get("keyframes").json() == []


def test_keyframes_that_cannot_be(project):
    assert_problem(project.put(FRAMES, mask()), 404)
    assert_problem(project.put("-1", mask()), 404)
    assert_problem(project.put("x", mask()), 404)
    assert_problem(project.service.request("PUT", f"{project.base}/keyframes/0", data=mask(), headers={"Content-Type": "image/jpeg"}), 415)
    assert_problem(project.service.request("PUT", f"{project.base}/keyframes/0", data=b"x" * (33 << 20), headers=PNG), 413)
    elsewhere = project.base.replace(project.clip["id"], "0" * 26)
    assert_problem(project.service.request("PUT", f"{elsewhere}/keyframes/0", data=mask(), headers=PNG), 404)


def test_two_clients_never_lose_an_edit(project):
    """Both read the current version and write: of each pair at most one wins, and every acknowledged mask is a version."""
    tag, acknowledged = project.put(3, mask(1)).headers["ETag"], {mask(1)}

    def write(x):
        return x, project.put(3, mask(x, box=3 + x % 9), If_Match=tag)

    for round in range(4):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(write, range(10 * round + 2, 10 * round + 6)))
        won = [(x, r) for x, r in answers if r.status_code == 200]
        assert len(won) == 1 and all(r.status_code == 412 for x, r in answers if r is not won[0][1])
        tag = won[0][1].headers["ETag"]
        acknowledged.add(mask(won[0][0], box=3 + won[0][0] % 9))
    stored = {project.get(f"keyframes/3?version={v['version']}").content for v in project.get("keyframes/3/versions").json()}
    assert stored == acknowledged


def test_acknowledged_masks_survive_kill(tmp_path, clip_path):
    s = Service(tmp_path / "data", ["--workers", 0], ready=False)
    p, kept = Project(s, clip_path), {}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        def work(n):
            try:
                body = mask(n % 40, box=5 + n // 40)
                r = p.put(n % FRAMES, body, **({"If_Match": "*"} if n >= FRAMES else {}))
                return n, body, r.status_code in (200, 201) and r.json()["version"]
            except OSError:
                return n, None, False
        jobs = [pool.submit(work, n) for n in range(60)]
        wait_for("some masks", lambda: sum(j.done() for j in jobs) > 30)
        os.kill(s.process.pid, signal.SIGKILL)
        for n, body, version in (j.result() for j in jobs):
            if version:
                kept[(n % FRAMES, version)] = body
    s.process.wait()
    assert len(kept) > 20
    again = Service(tmp_path / "data", ["--workers", 0], ready=False)
    p.service = again
    for (frame, version), body in kept.items():
        assert p.get(f"keyframes/{frame}?version={version}").content == body
    assert again.stop() == 0


# ---- labels -------------------------------------------------------------------------------------------------------


def test_review(service, project):
    for f in (0, 10):
        project.put(f, mask(f + 5))
    add_labels(service, project, range(1, 10), lambda f: f / 10)
    r = service.request("PATCH", f"{project.base}/labels/1", json={"state": "rejected"})
    assert r.status_code == 200 and r.json()["state"] == "rejected" and r.json()["source"] == "pseudo"
    tag = service.get(f"{project.base}/labels/2").headers["ETag"]
    assert service.request("PATCH", f"{project.base}/labels/2", json={"state": "accepted"}, headers={"If-Match": tag}).status_code == 200
    late = service.request("PATCH", f"{project.base}/labels/2", json={"state": "rejected"}, headers={"If-Match": tag})
    assert_problem(late, 412)
    assert_problem(service.request("PATCH", f"{project.base}/labels/0", json={"state": "rejected"}), 409, "nothing_to_review")
    assert_problem(service.request("PATCH", f"{project.base}/labels/15", json={"state": "rejected"}), 404)
    for bad in ({}, {"state": "good"}, {"state": "accepted", "x": 1}):
        assert_problem(service.request("PATCH", f"{project.base}/labels/3", json=bad), 400)
    assert service.post(f"{project.base}/labels/accept", json={"min_confidence": 0.75}).json() == {"accepted": 2}
    assert_problem(service.post(f"{project.base}/labels/accept", json={"min_confidence": 2}), 400)
    counts = service.get(project.base).json()["counts"]
    assert counts == {"keyframes": 2, "labels": 9, "proposed": 5, "accepted": 3, "rejected": 1, "stale": 0}
    assert [x["frame"] for x in project.get("labels?state=accepted&source=pseudo").json()] == [2, 8, 9]
    assert project.get("labels/4.png").content == mask(9)
    assert project.get("labels/4/uncertainty.png").status_code == 200
    assert_problem(project.get("labels/0/uncertainty.png"), 404)
    by_request = [a for a in project.audit() if a["request_id"] == r.headers["X-Request-Id"]]
    assert len(by_request) == 1 and by_request[0]["action"] == "label.reject"
    assert by_request[0]["before"]["state"] == "proposed" and by_request[0]["after"]["state"] == "rejected"


def test_correction_and_removal(service, project):
    for f in (0, 10):
        project.put(f, mask(f + 5))
    add_labels(service, project, range(1, 10), lambda f: 0.9)
    assert service.post(f"{project.base}/labels/accept", json={"min_confidence": 0}).json() == {"accepted": 9}
    r = project.put(5, mask(30), If_None_Match="*")
    assert r.status_code == 201 and r.json()["origin"] == "correction"
    labels = project.labels()
    assert labels[5]["source"] == "manual" and labels[4]["stale"] and labels[4]["state"] == "accepted"
    assert service.request("DELETE", f"{project.base}/keyframes/10").status_code == 204
    labels = project.labels()
    assert labels[10]["source"] == "uncovered" and not labels[10]["mask"]
    assert all(labels[f]["state"] == "proposed" and labels[f]["stale"] for f in (1, 4, 6, 9))


def test_suggest(service, project):
    frames = [x["frame"] for x in project.get("suggest?limit=3").json()]
    assert frames == [FRAMES // 2, 0, FRAMES - 1]
    assert {x["reason"] for x in project.get("suggest").json()} == {"no_keyframes"}
    project.put(0, mask())
    first = project.get("suggest").json()[0]
    assert first["reason"] == "long_gap" and first["frame"] == FRAMES - 1
    project.put(10, mask())
    add_labels(service, project, range(1, 10), lambda f: 0.3 if f in (4, 5) else 0.95)
    named = project.get("suggest?limit=20").json()
    assert named[0]["frame"] == 5 and named[0]["reason"] == "low_confidence" and named[0]["score"] == pytest.approx(0.7)
    assert [x["score"] for x in named] == sorted((x["score"] for x in named), reverse=True)
    chosen = sorted(x["frame"] for x in named)
    assert len(chosen) > 3 and min(b - a for a, b in zip(chosen, chosen[1:])) >= 3
    service.request("PATCH", f"{project.base}/labels/8", json={"state": "rejected"})
    assert project.get("suggest?limit=1").json()[0] == {"frame": 8, "score": 1, "reason": "rejected", "confidence": 0.95}
    assert_problem(project.get("suggest?limit=0"), 400)


# ---- propagation --------------------------------------------------------------------------------------------------


def test_propagate_is_one_job_at_a_time(service, project):
    assert_problem(service.post(f"{project.base}/propagate", json={}), 409, "no_keyframes")
    project.put(0, mask(5))
    project.put(FRAMES - 1, mask(24))
    for bad in ({"flow": 3}, {"frames": [3]}, {"frames": [3, 1]}, {"frames": [0, FRAMES]}, {"quality": 1}):
        assert_problem(service.post(f"{project.base}/propagate", json=bad), 400)
    assert_problem(service.post(f"{project.base}/propagate", json={"flow": "magic"}), 422, "no_such_flow")
    assert_problem(service.post(f"{project.base}/propagate", json={"model": "nope"}), 422, "no_such_model")
    r = service.post(f"{project.base}/propagate")
    assert r.status_code == 202 and r.json()["kind"] == "propagate"
    assert r.json()["params"]["project"] == project.id and r.json()["params"]["clip"] == project.clip["id"]
    again = service.post(f"{project.base}/propagate")
    if service.job(r.json()["id"])["state"] in ("queued", "running"):
        assert (again.status_code, again.headers["Location"]) in ((202, r.headers["Location"]), (409, r.headers["Location"]))
    service.post(f"/v1/jobs/{r.json()['id']}/cancel")


def test_removing_a_project_ends_its_jobs(service, project):
    project.put(0, mask(5))
    project.put(10, mask(15))
    job = service.post(f"{project.base}/propagate").json()
    assert service.request("DELETE", f"/v1/projects/{project.id}").status_code == 204
    assert service.job(job["id"])["state"] in ("canceled", "succeeded", "failed")
    assert_problem(project.get("keyframes"), 404)
    assert service.get(f"/v1/clips/{project.clip['id']}").status_code == 200


# ---- tenants ------------------------------------------------------------------------------------------------------


def test_tenants_do_not_see_each_others_projects(make_service, clip_path):
    service = make_service("--workers", 0, ready=False)
    ann, bob = (bearer(add_key(service, name, scopes="read,submit,annotate", tenant=name)) for name in ("ann", "bob"))
    with open(clip_path, "rb") as f:
        clip = service.post("/v1/clips", files={"clip": f}, headers=ann).json()
    project = service.post("/v1/projects", json={"name": "hers"}, headers=ann).json()["id"]
    url = f"/v1/projects/{project}"
    assert service.post(url + "/clips", json={"clip_id": clip["id"]}, headers=ann).status_code == 201
    frame = f"{url}/clips/{clip['id']}/keyframes/0"
    put = service.request("PUT", frame, data=mask(), headers={**PNG, **ann})
    assert put.status_code == 201
    assert service.get("/v1/projects", headers=bob).json()["items"] == []
    theirs = service.post("/v1/projects", json={"name": "his"}, headers=bob).json()["id"]
    assert_problem(service.post(f"/v1/projects/{theirs}/clips", json={"clip_id": clip["id"]}, headers=bob), 404)
    for method, path in (("GET", url), ("DELETE", url), ("PATCH", url), ("GET", url + "/clips"), ("GET", url + "/audit"),
                         ("GET", frame), ("DELETE", frame), ("GET", url + "/export?format=coco"),
                         ("GET", f"{url}/clips/{clip['id']}/labels"), ("POST", f"{url}/clips/{clip['id']}/propagate")):
        assert_problem(service.request(method, path, headers=bob), 404)
    # An archive that names her clip by its hash does not give it to him: his is made of the archive's pictures.
    archive = service.get(url + "/export?format=davis", headers=ann).content
    r = service.post(f"/v1/projects/{theirs}/import", data=archive, headers={"Content-Type": "application/zip", **bob})
    assert r.status_code == 200, r.text
    assert service.get(f"/v1/projects/{theirs}/clips", headers=bob).json()["items"][0]["id"] != clip["id"]
    who = service.get(url + "/audit", headers=ann).json()["items"][0]["actor"]
    assert put.json()["author"] == who == key_id(service.data, "ann")
