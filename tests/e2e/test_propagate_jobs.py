"""propagate jobs: a project's keyframes become labels, interval by interval, once each, whatever happens to the workers."""
import io
import os
import signal
import sqlite3
import zipfile

import numpy as np
import pytest
from PIL import Image

from conftest import wait_for
from test_projects import Project
from test_propagate_cli import GREEN, H, RED, W, draw

FRAMES, KEYS = 29, (0, 8, 16, 24)
SLOW_FRAMES = 41


def png(labels):
    im = Image.new("P", labels.shape[::-1])
    im.putdata(labels.ravel().tolist())
    im.putpalette([0, 0, 0, 200, 10, 20, 30, 210, 40])
    b = io.BytesIO()
    im.save(b, "PNG")
    return b.getvalue()


def make_clip(path, frames, scale=1):
    with zipfile.ZipFile(path, "w") as z:
        for t in range(frames):
            b = io.BytesIO()
            Image.fromarray(draw(t)[0]).resize((W * scale, H * scale)).save(b, "PNG")
            z.writestr(f"{t:05d}.png", b.getvalue())
    return path


@pytest.fixture(scope="module")
def clip_path(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "walk.zip", FRAMES)


@pytest.fixture(scope="module")
def slow_clip_path(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clips") / "slow.zip", SLOW_FRAMES, 2)


def paint(project, frames, scale=1):
    for t in frames:
        body = png(draw(t)[1].repeat(scale, 0).repeat(scale, 1))
        r = project.put(t, body, If_None_Match="*")
        assert r.status_code in (200, 201), r.text


def propagate(project, finish=True, **body):
    r = project.service.post(f"{project.base}/propagate", json=body)
    assert r.status_code == 202, r.text
    if not finish:
        return r.json()
    job = project.service.finish(r.json()["id"])
    assert job["state"] == "succeeded", job
    return job


def mask(project, frame):
    r = project.get(f"labels/{frame}.png")
    assert r.status_code == 200 and r.headers["Content-Type"] == "image/png", r.text
    im = Image.open(io.BytesIO(r.content))
    assert im.mode == "P"
    return np.asarray(im)


def j(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


def intervals(job):
    return {k: job["outputs"]["intervals"][k] for k in ("total", "computed", "kept", "out_of_range")}


def counts(total, computed, kept, out_of_range=0):
    return {"total": total, "computed": computed, "kept": kept, "out_of_range": out_of_range}


@pytest.fixture
def project(service, clip_path):
    p = Project(service, clip_path)
    paint(p, KEYS)
    return p


def test_labels_for_every_frame(project):
    job = propagate(project)
    assert intervals(job) == counts(4, 4, 0)
    assert job["outputs"]["labels"] == {"made": FRAMES - 4, "written": FRAMES - 4, "uncovered": 0}
    assert (job["kind"], job["progress"]["done"], job["progress"]["total"]) == ("propagate", FRAMES, FRAMES)
    labels = project.labels()
    assert sorted(labels) == list(range(FRAMES))
    for t, l in labels.items():
        if t in KEYS:
            assert (l["source"], l["state"]) == ("manual", "accepted")
            continue
        assert (l["source"], l["state"], l["stale"], l["job_id"]) == ("pseudo", "proposed", False, job["id"])
        assert 0 < l["confidence"] < 1 and l["model"].startswith("fgplg-lite/") and l["flow"] == "dis:brisk"
        assert l["left"] == max(k for k in KEYS if k < t)
        assert l["right"] == min((k for k in KEYS if k > t), default=None), "one-sided past the last keyframe"
        got, truth = mask(project, t), draw(t)[1]
        for label in (RED, GREEN):
            assert j(got == label, truth == label) > (0.65 if t > 24 else 0.85), (t, label)
        doubt = project.get(f"labels/{t}/uncertainty.png")
        assert Image.open(io.BytesIO(doubt.content)).size == (W, H), doubt.text


def test_a_changed_keyframe_recomputes_its_two_intervals(project):
    first = propagate(project, model="none")
    before = project.labels()
    etag = project.get("keyframes/16").headers["ETag"]
    moved = np.roll(draw(16)[1], 3, axis=1)
    assert project.put(16, png(moved), If_Match=etag).status_code == 200
    assert all(l["stale"] == (8 < t < 24 and t != 16) for t, l in project.labels().items())
    second = propagate(project, model="none")
    assert intervals(second) == counts(4, 2, 2)
    after = project.labels()
    for t in set(range(FRAMES)) - set(KEYS):
        touched = 8 < t < 24
        assert after[t]["job_id"] == (second if touched else first)["id"]
        assert touched or after[t] == before[t]
        assert not after[t]["stale"]
    assert intervals(propagate(project, model="none")) == counts(4, 0, 4)
    assert intervals(propagate(project, model="none", flow="dis:fast", frames=[1, 3])) == counts(4, 1, 0, 3)


def test_a_project_may_want_few_labels(service, project):
    settings = service.request("PATCH", f"/v1/projects/{project.id}", json={"labels_per_interval": 2})
    assert settings.status_code == 200
    propagate(project, model="none")
    made = [t for t, l in project.labels().items() if l["source"] == "pseudo"]
    assert made == [2, 6, 10, 14, 18, 22, 26, 28]
    assert all(l["mask"] == (t in made or t in KEYS) and not l["stale"] for t, l in project.labels().items())
    assert intervals(propagate(project, model="none")) == counts(4, 0, 4)
    service.request("PATCH", f"/v1/projects/{project.id}", json={"labels_per_interval": 0})
    assert intervals(propagate(project, model="none")) == counts(4, 4, 0)
    assert all(l["mask"] for l in project.labels().values())


def test_reviewed_labels_stay(project):
    propagate(project, model="none")
    for t, state in ((3, "accepted"), (5, "rejected")):
        assert project.service.request("PATCH", f"{project.base}/labels/{t}", json={"state": state}).status_code == 200
    before = project.labels()
    job = propagate(project, model="none", flow="dis:fast")
    after = project.labels()
    assert intervals(job) == counts(4, 4, 0) and job["outputs"]["labels"]["written"] == FRAMES - 4 - 2
    assert after[3] == before[3] and after[5] == before[5] and after[4]["flow"] == "dis:fast"


def test_bad_jobs_say_why(service, clip_path):
    p = Project(service, clip_path)
    assert service.post(f"{p.base}/propagate", json={}).status_code == 409
    paint(p, (4,))
    job = service.finish(propagate(p, finish=False, model="rcrnet-lite")["id"])
    assert job["state"] == "failed" and "not a label generator" in job["error"]["message"], job
    assert intervals(propagate(p, model="none")) == counts(2, 2, 0)  # both sides of a lone keyframe
    assert all(l["left"] is None or l["right"] is None for t, l in p.labels().items() if t != 4)


def test_worker_killed_in_the_middle(make_service, slow_clip_path):
    service = make_service()
    p = Project(service, slow_clip_path)
    paint(p, range(0, SLOW_FRAMES, 10), 2)
    job = propagate(p, finish=False, model="none")
    wait_for("the first interval", lambda: sum(l["source"] == "pseudo" for l in p.labels().values()) >= 9, 60)
    victim, = service.pids("worker")
    os.kill(victim, signal.SIGKILL)
    done = service.finish(job["id"])
    assert done["state"] == "succeeded" and done["attempt"] == 2, done
    got = intervals(done)
    assert got["kept"] >= 1 and got["computed"] + got["kept"] == got["total"] == 4, got
    labels = p.get("labels").json()
    assert [l["frame"] for l in labels] == list(range(SLOW_FRAMES))
    assert all(l["source"] == ("pseudo" if l["frame"] % 10 else "manual") for l in labels)
    assert {l["version"] for l in labels} == {1}, "a label was written twice"


def test_cancel_keeps_what_is_finished(make_service, slow_clip_path):
    service = make_service()
    p = Project(service, slow_clip_path)
    paint(p, range(0, SLOW_FRAMES, 10), 2)
    job = propagate(p, finish=False, model="none")
    wait_for("the first interval", lambda: sum(l["source"] == "pseudo" for l in p.labels().values()) >= 9, 60)
    assert service.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert service.finish(job["id"])["state"] == "canceled"
    again = intervals(propagate(p, model="none"))
    assert again["kept"] >= 1 and again["computed"] + again["kept"] == 4, again
    with sqlite3.connect(service.data / "salient.db") as db:
        assert db.execute("SELECT count(*) FROM labels WHERE sha256 IS NOT NULL AND source = 'pseudo'").fetchone() == (36,)
