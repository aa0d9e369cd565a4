"""The registry over HTTP: what is built in, importing, refusing, aliases, rollback, and which version a job runs."""

import hashlib
import io
import json
import os
import pathlib
import re
import struct
import subprocess
import threading
import zipfile

import pytest
import requests

from conftest import BINARY, ROOT, assert_problem, wait_for

LITE = ROOT / "models" / "rcrnet-lite" / "1" / "model.safetensors"
RAW = {"Content-Type": "application/octet-stream"}


def read_weights(path):
    """Header and data of a safetensors file."""
    raw = pathlib.Path(path).read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    return json.loads(raw[8:8 + n]), raw[8 + n:]


def write_weights(header, data):
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data


def other_weights(seed=1):
    """The built-in detector with a few bytes of its last layers changed: another model of the same architecture."""
    header, data = read_weights(LITE)
    data = bytearray(data)
    name = max((k for k in header if k.endswith("decoder.conv2.bias")), key=len)
    begin, end = header[name]["data_offsets"]
    assert header[name]["dtype"] == "F16" and end - begin == 2
    data[begin:end] = struct.pack("<e", -1.0 - seed / 4)
    return write_weights(header, bytes(data))


def import_version(service, model, body, status=201, **params):
    r = service.post(f"/v1/models/{model}/versions", data=body, headers=RAW, params=params)
    assert r.status_code == status, r.text
    return r.json()


def champion(service, model="rcrnet-lite"):
    return service.get(f"/v1/models/{model}").json()["aliases"]["champion"]


def maps(service, clip, **params):
    """(job, bytes of maps.zip) of a finished job."""
    job = service.finish(service.submit(clip, {"size": "64", **params})["id"])
    assert job["state"] == "succeeded", job
    body = service.get(f"/v1/jobs/{job['id']}/maps.zip").content
    with zipfile.ZipFile(io.BytesIO(body)) as z:
        return job, {n: z.read(n) for n in z.namelist() if n.endswith(".png")}


def test_built_in(service):
    models = {m["name"]: m for m in service.get("/v1/models").json()["items"]}
    assert {"rcrnet-lite", "fgplg-lite"} <= set(models)
    doc = service.get("/v1/models/rcrnet-lite").json()
    assert doc["arch"] == "rcrnet-lite" and doc["aliases"]["champion"]["version"] == "1"
    version = doc["versions"][-1]
    assert version["origin"] == "builtin" and version["sha256"] == hashlib.sha256(LITE.read_bytes()).hexdigest()
    assert version["metrics"] and version["training"]
    assert doc["history"][-1]["alias"] == "champion" and doc["history"][-1]["reason"]
    assert_problem(service.request("DELETE", "/v1/models/rcrnet-lite/versions/1"), 409)
    assert_problem(service.get("/v1/models/none-such"), 404)
    assert_problem(service.get("/v1/models/rcrnet-lite/versions/99"), 404)


def test_import_alias_rollback(make_service, clips):
    service = make_service()
    first, before = maps(service, clips["frames.zip"])
    assert (first["model"], first["model_version"]) == ("rcrnet-lite", "1") and len(first["model_sha256"]) == 64
    body = other_weights()
    made = import_version(service, "rcrnet-lite", body)
    assert made["version"] == "2" and made["origin"] == "import" and champion(service)["version"] == "1"
    assert import_version(service, "rcrnet-lite", body, 200)["version"] == "2"  # the same bytes again
    job, other = maps(service, clips["frames.zip"], model="rcrnet-lite@2")
    assert job["model_version"] == "2" and job["model_sha256"] == made["sha256"] and other != before
    # A new champion is picked up between jobs by the same worker.
    worker = service.pids("worker")
    url = "/v1/models/rcrnet-lite/aliases/champion"
    assert_problem(service.request("PUT", url, json={"version": "7"}), 404)
    assert_problem(service.request("PUT", url, json={}), 400)
    assert_problem(service.request("PUT", url, json={"version": "2"}, headers={"If-Match": '"9"'}), 412)
    r = service.request("PUT", url, json={"version": "2", "reason": "looks better"}, headers={"If-Match": '"1"'})
    assert r.status_code == 200 and r.json()["generation"] == 2 and r.headers["ETag"] == '"2"'
    job, after = maps(service, clips["frames.zip"])
    assert job["model_version"] == "2" and after == other and service.pids("worker") == worker
    assert_problem(service.request("DELETE", "/v1/models/rcrnet-lite/versions/2"), 409)
    assert maps(service, clips["frames.zip"], model="rcrnet-lite@1")[1] == before
    # Rolling back restores the old maps bit for bit.
    r = service.post("/v1/models/rcrnet-lite/rollback", json={"reason": "it was not"})
    assert r.status_code == 200 and r.json()["version"] == "1"
    job, again = maps(service, clips["frames.zip"], model="rcrnet-lite:champion")
    assert job["model_version"] == "1" and again == before
    assert_problem(service.post("/v1/models/rcrnet-lite/rollback"), 409)
    history = [h for h in service.get("/v1/models/rcrnet-lite").json()["history"] if h["alias"] == "champion"]
    assert [(h["action"], h["from"], h["to"], h["reason"]) for h in history[:2]] == [
        ("rollback", "2", "1", "it was not"), ("set", "1", "2", "looks better")]
    assert service.request("DELETE", "/v1/models/rcrnet-lite/versions/2").status_code == 204
    r = service.post("/v1/saliency", files={"clip": clips["picture.png"].read_bytes()}, params={"model": "rcrnet-lite@2"})
    assert_problem(r, 422, "no_such_model")


def hostile(kind):
    header, data = read_weights(LITE)
    names = [n for n in header if n != "__metadata__"]
    header.pop("__metadata__")
    if kind == "empty":
        return b""
    if kind == "noise":
        return os.urandom(100_000)
    if kind == "cut":
        return LITE.read_bytes()[:-5000]
    if kind == "long header":
        return struct.pack("<Q", 1 << 60) + b"{}"
    if kind == "overlap":
        header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]
    if kind == "shape":
        header[names[3]]["shape"] = header[names[3]]["shape"][::-1] + [1]
    if kind == "missing":
        header.pop(names[-1])
    if kind == "not finite":
        begin, _ = header[names[0]]["data_offsets"]
        data = data[:begin] + struct.pack("<e", float("nan")) + data[begin + 2:]
    if kind == "pickle":
        return b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."
    if kind == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as z:
            z.writestr("x/data.pkl", b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
        return out.getvalue()
    return write_weights(header, data)


@pytest.mark.parametrize("kind", ["empty", "noise", "cut", "long header", "overlap", "shape", "missing", "not finite",
                                  "pickle", "zip"])
def test_bad_weights_are_refused(service, kind):
    blobs = service.data / "blobs" / "models"
    wait_for("the built-in models to be kept", lambda: len(list(blobs.glob("*"))) >= 2)
    before = sorted(blobs.rglob("*"))
    versions = service.get("/v1/models/rcrnet-lite").json()["versions"]
    r = service.post("/v1/models/rcrnet-lite/versions", data=hostile(kind), headers=RAW)
    doc = assert_problem(r, 422, "bad_weights")
    assert str(service.data) not in doc["detail"] and len(doc["detail"]) > 10
    assert service.get("/v1/models/rcrnet-lite").json()["versions"] == versions
    assert sorted(blobs.rglob("*")) == before
    wait_for("temporary files to go", lambda: not service.temp_files(), 15)


def test_wrong_architecture_and_names(service):
    fgplg = (ROOT / "models" / "fgplg-lite" / "1" / "model.safetensors").read_bytes()
    doc = assert_problem(service.post("/v1/models/rcrnet-lite/versions", data=fgplg, headers=RAW), 422, "bad_weights")
    assert "fgplg-lite" in doc["detail"]
    r = service.post("/v1/models/rcrnet-lite/versions", data=fgplg, headers=RAW, params={"arch": "fgplg-lite"})
    assert_problem(r, 422, "wrong_architecture")
    assert_problem(service.post("/v1/models/x/versions", data=fgplg, headers=RAW, params={"arch": "nothing"}), 400)
    assert_problem(service.post("/v1/models/.x/versions", data=fgplg, headers=RAW), 400)
    assert_problem(service.post("/v1/models/x/versions", data=fgplg, headers=RAW, params={"version": "a b"}), 400)
    assert_problem(service.post("/v1/models/x/versions", data=fgplg, headers={"Content-Type": "video/mp4"}), 415)
    assert_problem(service.get("/v1/models/x"), 404)


def test_multipart_import_makes_a_model(service):
    fgplg = (ROOT / "models" / "fgplg-lite" / "1" / "model.safetensors").read_bytes()
    r = service.post("/v1/models/flow/versions", files={"weights": ("m.safetensors", fgplg)},
                     data={"arch": "fgplg-lite", "version": "spring", "input_px": "256"})
    assert r.status_code == 201, r.text
    assert r.headers["Location"] == "/v1/models/flow/versions/spring" and r.json()["input_px"] == 256
    assert champion(service, "flow")["version"] == "spring"  # the first version is the champion
    # What was stored is what the built-in file holds, value for value.
    stored = service.data / "blobs" / "models" / r.json()["sha256"]
    out = subprocess.run([str(BINARY), "model", "info", str(stored)], capture_output=True, text=True)
    assert out.returncode == 0 and re.search(r"architecture fgplg-lite", out.stdout)
    a, b = read_weights(stored), read_weights(ROOT / "models" / "fgplg-lite" / "1" / "model.safetensors")
    def value(w, n):
        return w[1][slice(*w[0][n]["data_offsets"])]
    assert all(value(a, n) == value(b, n) for n in a[0] if n != "__metadata__")


def test_moves_race(service):
    """Of many moves that name the same generation, one wins."""
    import_version(service, "race", other_weights(1), arch="rcrnet-lite")
    import_version(service, "race", other_weights(2))
    codes = []

    def move():
        r = requests.put(service.url + "/v1/models/race/aliases/champion", json={"version": "2"},
                         headers={"If-Match": '"1"'}, timeout=30)
        codes.append(r.status_code if r.status_code in (200, 412) else r.text)

    threads = [threading.Thread(target=move) for _ in range(8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert sorted(codes, key=str) == [200] + [412] * 7, codes
    assert champion(service, "race")["generation"] == 2


def test_damaged_cache_is_made_again(make_service, clips):
    service = make_service()
    made = import_version(service, "rcrnet-lite", other_weights(3))
    _, want = maps(service, clips["frames.zip"], model="rcrnet-lite@2")
    copy = service.data / "cache" / "models" / made["sha256"] / "model.safetensors"
    raw = bytearray(copy.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    copy.write_bytes(raw)
    maps(service, clips["picture.png"])  # the worker lets go of the version
    job, got = maps(service, clips["frames.zip"], model="rcrnet-lite@2")
    assert got == want and job["model_sha256"] == made["sha256"]
    assert hashlib.sha256(copy.read_bytes()).hexdigest() == made["sha256"]


def test_running_job_keeps_its_version(make_service, clips):
    service = make_service()
    import_version(service, "rcrnet-lite", other_weights(4))
    job = service.submit(clips["long"], {"size": "96"})
    wait_for("the job to have begun", lambda: service.job(job["id"])["model_version"])
    assert service.request("PUT", "/v1/models/rcrnet-lite/aliases/champion", json={"version": "2"}).status_code == 200
    waiting = service.submit(clips["picture.png"])
    worker = service.pids("worker")[0]
    os.kill(worker, 9)  # its next attempt keeps the version too
    ended = service.finish(job["id"])
    assert ended["state"] == "succeeded" and ended["attempt"] == 2 and ended["model_version"] == "1"
    assert service.finish(waiting["id"])["model_version"] == "2"
