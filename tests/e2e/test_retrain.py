"""Training jobs end to end: labels in, a version out, promoted by the gate or kept with a reason, once, whatever dies."""

import io
import json
import os
import signal
import struct
import threading
import time

import numpy as np
import pytest
import requests
from PIL import Image

from conftest import assert_problem, make_video, read_events, wait_for
from test_models import RAW, champion, import_version, maps, read_weights, write_weights, LITE

TINY = {"size": 64, "batch": 2, "steps": 24, "minutes": 5, "lr": 2e-3}
SIZE, FRAMES = (96, 64), 12


def disc_mask(n):
    """What make_video paints in frame n."""
    y, x = np.mgrid[0:SIZE[1], 0:SIZE[0]]
    mask = (x - 10 - 3 * n % SIZE[0]) ** 2 + (y - SIZE[1] // 2) ** 2 < 120
    out = io.BytesIO()
    Image.fromarray((mask * 255).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def backward_weights():
    """The built-in detector with its last layer turned around: what it marks is the background."""
    header, data = read_weights(LITE)
    data = bytearray(data)
    for name in header:
        if name.endswith(("decoder.conv2.weight", "decoder.conv2.bias")):
            begin, end = header[name]["data_offsets"]
            values = np.frombuffer(bytes(data[begin:end]), "<f2")
            data[begin:end] = (-values).astype("<f2").tobytes()
    return write_weights(header, bytes(data))


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    d = tmp_path_factory.mktemp("discs")
    return [make_video(d / f"{n}.mp4", FRAMES + n) for n in range(3)]


def make_project(service, clips, frames=(0, 4, 8), **settings):
    r = service.post("/v1/projects", json={"name": "discs", **settings})
    assert r.status_code == 201, r.text
    p = r.json()["id"]
    for clip in clips:
        with open(clip, "rb") as f:
            c = service.post(f"/v1/projects/{p}/clips", files={"clip": f})
        assert c.status_code in (200, 201), c.text
        put_masks(service, p, c.json()["id"], frames)
    return p


def put_masks(service, project, clip, frames):
    for n in frames:
        r = service.request("PUT", f"/v1/projects/{project}/clips/{clip}/keyframes/{n}", data=disc_mask(n),
                            headers={"Content-Type": "image/png", "If-None-Match": "*"})
        assert r.status_code in (200, 201), r.text


def retrain(service, project, status=202, **params):
    r = service.post(f"/v1/projects/{project}/retrain", json=params)
    assert r.status_code == status, r.text
    return r.json()


def test_a_weak_champion_is_replaced_and_rolled_back(make_service, discs):
    service = make_service()
    import_version(service, "disc", backward_weights())
    _, before = maps(service, discs[0], model="disc")
    p = make_project(service, discs)
    job = retrain(service, p, model="disc", **TINY)
    assert job["kind"] == "train" and job["progress"]["unit"] == "steps"
    assert_problem(service.post(f"/v1/projects/{p}/retrain", json={"model": "disc"}), 409, "already_training")
    with service.get(f"/v1/jobs/{job['id']}/events", stream=True) as r:
        events = read_events(r)
    done = service.finish(job["id"], 600)
    assert done["state"] == "succeeded", done
    out = done["outputs"]
    assert out["promoted"] is True and "better" in out["reason"]
    assert out["challenger"]["metrics"]["s_measure"] > out["champion"]["metrics"]["s_measure"]
    assert out["snapshot"]["held_out"] == "clips" and out["snapshot"]["train_labels"] == 6
    assert out["snapshot"]["held_out_labels"] == 3
    kinds = {e["event"] for e in events}
    assert {"state", "progress", "log", "curve"} <= kinds
    assert any(e["event"] == "curve" and e["data"]["name"] == "loss" for e in events)
    curves = service.get(f"/v1/jobs/{job['id']}/curves").json()["curves"]
    assert curves["loss"][-1][0] == 24
    doc = service.get("/v1/models/disc").json()
    new = doc["versions"][0]
    assert new["origin"] == "train" and new["parent_version"] == "1" and new["job_id"] == job["id"]
    assert doc["aliases"]["champion"]["version"] == doc["aliases"]["challenger"]["version"] == new["version"] == "2"
    assert doc["history"][0]["reason"] == out["reason"] or doc["history"][1]["reason"] == out["reason"]
    after_job, after = maps(service, discs[0], model="disc")
    assert after_job["model_version"] == "2" and after != before
    assert not list((service.data / "cache" / "train").glob("*"))
    assert service.post("/v1/models/disc/rollback").status_code == 200
    assert maps(service, discs[0], model="disc")[1] == before


def test_a_gate_keeps_the_champion(make_service, discs):
    service = make_service()
    p = make_project(service, discs[:1], frames=range(0, 12, 2))
    job = retrain(service, p, **{**TINY, "steps": 4}, min={"s_measure": 0.999})
    done = service.finish(job["id"], 600)
    assert done["state"] == "succeeded", done
    out = done["outputs"]
    assert out["promoted"] is False and "s_measure" in out["reason"] and out["snapshot"]["held_out"] == "intervals"
    assert [g["pass"] for g in out["gates"] if g["gate"] == "min"] == [False]
    doc = service.get("/v1/models/rcrnet-lite").json()
    assert doc["aliases"]["champion"]["version"] == "1" and doc["aliases"]["challenger"]["version"] == "2"
    kept = [h for h in doc["history"] if h["action"] == "keep"]
    assert len(kept) == 1 and kept[0]["reason"] == out["reason"] and kept[0]["moved"] is False
    assert kept[0]["actor"] == f"job {job['id']}"


def test_killed_in_the_middle_it_goes_on_and_promotes_once(make_service, discs):
    service = make_service()
    import_version(service, "disc", backward_weights())
    p = make_project(service, discs)
    job = retrain(service, p, model="disc", **{**TINY, "steps": 16})
    blobs = service.data / "blobs" / "jobs" / job["id"] / "train"
    wait_for("a checkpoint", lambda: (blobs / "checkpoint.safetensors").exists(), 120)
    os.kill(service.pids("worker")[0], signal.SIGKILL)
    done = service.finish(job["id"], 600)
    assert done["state"] == "succeeded" and done["attempt"] == 2, done
    log = service.log()
    assert "going on from a checkpoint" in log and "begins again" not in log
    doc = service.get("/v1/models/disc").json()
    assert [v["version"] for v in doc["versions"]] == ["2", "1"]
    assert len([h for h in doc["history"] if h["alias"] == "champion" and h["action"] == "set"]) == 2
    assert service.get(f"/v1/jobs/{job['id']}/curves").json()["curves"]["loss"][-1][0] == 16
    assert not blobs.exists() or not list(blobs.iterdir())


def test_cancel_and_refusals(make_service, discs):
    service = make_service()
    assert_problem(service.post("/v1/projects/01hzzzzzzzzzzzzzzzzzzzzzzz/retrain"), 404)
    p = make_project(service, discs[:1], frames=(0,))
    assert_problem(service.post(f"/v1/projects/{p}/retrain"), 409, "too_few_labels")
    p = make_project(service, discs[:2], frames=(0, 5))
    for bad in ({"lr": 5}, {"steps": 1.5}, {"size": 70}, {"min": {"nothing": 1}}, {"min": 3}, {"other": 1},
                {"model": "rcrnet-lite@1"}):
        assert_problem(service.post(f"/v1/projects/{p}/retrain", json=bad), 400)
    assert_problem(service.post(f"/v1/projects/{p}/retrain", json={"model": "none"}), 422, "no_such_model")
    assert_problem(service.post(f"/v1/projects/{p}/retrain", json={"model": "fgplg-lite"}), 422, "not_a_detector")
    job = retrain(service, p, **{**TINY, "steps": 5000})
    wait_for("training to run", lambda: service.job(job["id"])["progress"]["done"] > 1, 120)
    assert service.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert service.finish(job["id"], 600)["state"] == "canceled"
    assert len(service.get("/v1/models/rcrnet-lite").json()["versions"]) == 1
    job = retrain(service, p, **{**TINY, "steps": 2})  # the project is free again
    assert service.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    wait_for("the scratch folders to go", lambda: not list((service.data / "cache" / "train").glob("*")), 60)


def test_auto_mode_starts_one(make_service, discs):
    service = make_service("--workers", "0", ready=False)
    p = make_project(service, discs[:2], frames=(0, 5), retrain={"mode": "auto", "min_new_labels": 6, "holdout": 0.3})
    time.sleep(4)

    def jobs():
        return service.get("/v1/jobs", params={"kind": "train"}).json()["items"]
    assert jobs() == []
    clip = service.get(f"/v1/projects/{p}/clips").json()["items"][0]["id"]
    put_masks(service, p, clip, (2, 7))
    wait_for("a training to be queued", jobs, 15)
    put_masks(service, p, clip, (1, 3, 4, 6, 8, 9))
    time.sleep(4)
    assert len(jobs()) == 1 and jobs()[0]["params"]["holdout"] == 0.3
