"""POST /v1/saliency and the jobs it makes: every way in, every way out."""

import io
import json
import pathlib
import subprocess
import zipfile

import pytest
from PIL import Image

from conftest import SMALL, assert_problem

WAIT = {"Prefer": "wait=60"}


def post_raw(service, clip, content_type, **kw):
    headers = {"Content-Type": content_type, **kw.pop("headers", {})}
    return service.post("/v1/saliency", data=clip.read_bytes(), headers=headers, params=kw.pop("params", SMALL), **kw)


def test_video_to_maps(service, clips):
    job = service.submit(clips["short"])
    assert job["kind"] == "saliency" and job["state"] in ("queued", "running")
    assert job["model"] == "rcrnet-lite" and job["progress"]["unit"] == "frames"
    job = service.finish(job["id"])
    assert job["state"] == "succeeded" and job["error"] is None, job
    assert job["progress"] == {"done": 12, "total": 12, "unit": "frames"}
    assert job["attempt"] == 1 and job["expires_at"] > job["finished_at"] >= job["started_at"] >= job["created_at"]
    assert job["outputs"]["frames"] == 12 and job["outputs"].get("overlay") is None
    for n in range(12):
        r = service.get(f"/v1/jobs/{job['id']}/maps/{n}.png")
        picture = Image.open(io.BytesIO(r.content))
        assert picture.size == (96, 64) and picture.mode == "L", n
    assert_problem(service.get(f"/v1/jobs/{job['id']}/maps/12.png"), 404)
    assert_problem(service.get(f"/v1/jobs/{job['id']}/overlay.mp4"), 404)


@pytest.mark.parametrize("name,content_type,frames", [
    ("picture.png", "image/png", 1), ("picture.jpg", "image/jpeg", 1), ("frames.zip", "application/zip", 5),
    ("short", "video/mp4", 12), ("short", "Video/MP4; charset=x", 12)])
def test_raw_bodies(service, clips, name, content_type, frames):
    r = post_raw(service, clips[name], content_type, headers=WAIT)
    assert r.status_code == 200 and r.headers["Preference-Applied"] == "wait=60", r.text
    assert r.headers["Location"] == f"/v1/jobs/{r.json()['id']}"
    assert r.json()["state"] == "succeeded" and r.json()["outputs"]["frames"] == frames


def test_wait_gives_the_result_itself(service, clips):
    r = post_raw(service, clips["picture.jpg"], "image/jpeg", headers={**WAIT, "Accept": "image/png"})
    assert r.status_code == 200 and r.headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(r.content)).size == (80, 48)
    r = post_raw(service, clips["frames.zip"], "application/zip", headers={**WAIT, "Accept": "application/zip"})
    names = zipfile.ZipFile(io.BytesIO(r.content)).namelist()
    assert names == [f"{n:05d}.png" for n in range(5)]
    r = post_raw(service, clips["short"], "video/mp4", headers={**WAIT, "Accept": "image/png"})
    assert_problem(r, 406, "not_acceptable")


def test_wait_that_is_too_short_gives_the_job(service, clips):
    r = post_raw(service, clips["long"], "video/mp4", headers={"Prefer": "wait=1"}, params={"size": "160"})
    assert r.status_code == 202 and r.elapsed.total_seconds() >= 0.9
    assert service.post(f"/v1/jobs/{r.json()['id']}/cancel").json()["state"] == "canceled"


def test_stored_clip_is_used_again(service, clips):
    with open(clips["other"], "rb") as f:
        r = service.post("/v1/clips", files={"clip": ("x.mp4", f)})
    clip = r.json()
    assert r.status_code == 201 and r.headers["Location"] == f"/v1/clips/{clip['id']}"
    assert (clip["frames"], clip["width"], clip["height"], clip["codec"]) == (13, 96, 64, "h264")
    with open(clips["other"], "rb") as f:
        again = service.post("/v1/clips", files={"clip": ("y.mp4", f)})
    assert again.status_code == 200 and again.json()["id"] == clip["id"]
    r = service.post("/v1/saliency", json={"clip_id": clip["id"], "size": 64}, headers=WAIT)
    assert r.status_code == 200 and r.json()["clip_id"] == clip["id"] and r.json()["state"] == "succeeded"
    frame = service.get(f"/v1/clips/{clip['id']}/frames/7")
    assert Image.open(io.BytesIO(frame.content)).size == (96, 64) and frame.headers["Content-Type"] == "image/jpeg"
    assert_problem(service.get(f"/v1/clips/{clip['id']}/frames/13"), 404)
    assert_problem(service.get(f"/v1/clips/{clip['id']}/frames/-1"), 404)
    assert service.request("DELETE", f"/v1/clips/{clip['id']}").status_code == 204
    assert_problem(service.get(f"/v1/clips/{clip['id']}"), 404)


def test_overlay(service, clips):
    job = service.submit(clips["short"], {**SMALL, "overlay": "true"})
    job = service.finish(job["id"])
    assert job["outputs"]["overlay"] == f"/v1/jobs/{job['id']}/overlay.mp4"
    r = service.get(job["outputs"]["overlay"])
    assert r.headers["Content-Type"] == "video/mp4" and r.content[4:8] == b"ftyp"


def test_parameters_in_fields_and_query(service, clips):
    files = {"clip": ("a.png", clips["picture.png"].read_bytes()), "size": (None, "64"), "overlay": (None, "false")}
    r = service.post("/v1/saliency", files=files, headers=WAIT)
    assert r.status_code == 200 and r.json()["params"] == {"size": 64, "overlay": False}


@pytest.mark.parametrize("params,status,code", [
    ({"nonsense": "1"}, 400, "malformed"), ({"size": "abc"}, 400, "malformed"), ({"size": "0"}, 400, "malformed"),
    ({"size": "999999999999999999999"}, 400, "malformed"), ({"size": "-64"}, 400, "malformed"),
    ({"overlay": "maybe"}, 400, "malformed"), ({"webhook_url": "ftp://x"}, 400, "malformed"),
    ({"webhook_url": "javascript:1"}, 400, "malformed"), ({"model": "none-such"}, 422, "no_such_model"),
    ({"model": "../../../etc"}, 422, "no_such_model"), ({"model": "/etc"}, 422, "no_such_model"),
    ({"model": ""}, 422, "no_such_model")])
def test_bad_parameters(service, clips, params, status, code):
    assert_problem(post_raw(service, clips["picture.png"], "image/png", params=params), status, code)


@pytest.mark.parametrize("body,content_type,status", [
    (b"hello", "text/plain", 415), (b"hello", None, 415), (b"a=b", "application/x-www-form-urlencoded", 415),
    (b"", "image/png", 422), (b"not a picture", "image/png", 415), (b"{", "application/json", 400),
    (b"[1]", "application/json", 400), (b'{"clip_id": 1.5}', "application/json", 400),
    (b'{"clip_id": "x", "clip_id": "y"}', "application/json", 400), (b"{}", "application/json", 400),
    (b'{"clip_id": "01m827jqp9xjv3vtpm7sfydmr2"}', "application/json", 404),
    (b'{"clip_id": "../../x"}', "application/json", 404), (b"\xff\xfe", "application/json", 400),
    (b" " * 70000 + b"{}", "application/json", 413)])
def test_bad_bodies(service, body, content_type, status):
    headers = {"Content-Type": content_type} if content_type else {}
    assert_problem(service.post("/v1/saliency", data=body, headers=headers), status)


def multipart(*parts, end=b"--B--\r\n"):
    return b"".join(b"--B\r\n" + p + b"\r\n" for p in parts) + end


FIELD = b'Content-Disposition: form-data; name="%s"\r\n\r\n%s'


@pytest.mark.parametrize("body", [
    b"", b"--B", b"--B--", b"garbage", multipart(end=b""), multipart(FIELD % (b"clip", b"x"), end=b""),
    multipart(b"Content-Disposition: form-data\r\n\r\nx"), multipart(b"\r\nx"), b"--B\r\nX: " + b"y" * 10000,
    multipart(*[FIELD % (b"f%d" % n, b"x") for n in range(70)]), multipart(FIELD % (b"size", b"64\x0064")),
    multipart(FIELD % (b"clip", b"x"), FIELD % (b"clip", b"y")), multipart(FIELD % (b"size", b"64")),
    multipart(FIELD % (b"other", b"64")), b"--Bxx\r\n\r\n", multipart(FIELD % (b"size", b"64"), FIELD % (b"size", b"65"))])
def test_malformed_multipart(service, body):
    r = service.post("/v1/saliency", data=body, headers={"Content-Type": "multipart/form-data; boundary=B"})
    assert_problem(r, 400, "malformed")


def test_multipart_without_boundary(service):
    for header in ("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 90):
        assert_problem(service.post("/v1/saliency", data=b"x", headers={"Content-Type": header}), 400)


def test_content_that_looks_like_the_boundary(service, clips):
    """A clip whose bytes hold almost-boundaries comes through unchanged, in chunks of every small size."""
    noise = b"\r\n--B\r\r\n--\r\n--BOUNDAR\r\r\n-" * 50
    png = clips["picture.png"].read_bytes() + noise
    part = b'Content-Disposition: form-data; name="clip"; filename="a\\"b.png"\r\nContent-Type: image/png\r\n\r\n' + png
    body = b"preamble\r\n--BOUNDARY  \r\n" + part + b"\r\n--BOUNDARY--\r\nepilogue"
    for step in (1, 2, 3, 7, 64, 4096):
        chunks = (body[i:i + step] for i in range(0, len(body), step))
        r = service.post("/v1/clips", data=chunks, headers={"Content-Type": 'multipart/form-data; boundary="BOUNDARY"'})
        assert r.status_code in (200, 201), r.text
        assert r.json()["bytes"] == len(png) and r.json()["name"] == 'a"b.png'


def test_idempotency(service, clips):
    key = {"Idempotency-Key": "order-66"}
    first = service.submit(clips["short"], headers=key)
    again = service.submit(clips["short"], headers=key)
    assert again["id"] == first["id"]
    with open(clips["other"], "rb") as f:
        assert_problem(service.post("/v1/saliency", files={"clip": f}, params=SMALL, headers=key), 409,
                       "idempotency_conflict")
    with open(clips["short"], "rb") as f:
        assert_problem(service.post("/v1/saliency", files={"clip": f}, params={"size": "96"}, headers=key), 409)
    assert service.submit(clips["short"])["id"] != first["id"]
    for bad in ("x" * 256, "a\tb"):
        with open(clips["short"], "rb") as f:
            assert_problem(service.post("/v1/saliency", files={"clip": f}, params=SMALL,
                                        headers={"Idempotency-Key": bad}), 400)
    service.finish(first["id"])


def test_list_pages_and_filters(service, clips):
    made = [service.submit(clips["picture.png"])["id"] for _ in range(5)]
    for job_id in made:
        service.finish(job_id)
    seen, cursor = [], None
    while True:
        page = service.get("/v1/jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) <= 2
        seen += [j["id"] for j in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) and set(made) <= set(seen) and seen == sorted(seen, reverse=True)
    states = {j["state"] for j in service.get("/v1/jobs", params={"state": "succeeded"}).json()["items"]}
    assert states == {"succeeded"}
    for bad in ({"limit": "0"}, {"limit": "x"}, {"cursor": "zzz"}, {"state": "dead"}, {"kind": "x"}, {"what": "1"}):
        assert_problem(service.get("/v1/jobs", params=bad), 400)


def test_cancel_and_delete(service, clips):
    job = service.submit(clips["long"], {"size": "160"})
    assert service.request("DELETE", f"/v1/clips/{job['clip_id']}").status_code == 409
    canceled = service.post(f"/v1/jobs/{job['id']}/cancel")
    assert canceled.status_code == 200 and canceled.json()["state"] == "canceled"
    assert service.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "canceled"
    done = service.finish(service.submit(clips["picture.png"])["id"])
    assert_problem(service.post(f"/v1/jobs/{done['id']}/cancel"), 409)
    assert service.request("DELETE", f"/v1/jobs/{done['id']}").status_code == 204
    assert_problem(service.get(f"/v1/jobs/{done['id']}"), 404)
    assert_problem(service.get(f"/v1/jobs/{done['id']}/maps/0.png"), 404)
    assert_problem(service.request("DELETE", f"/v1/jobs/{done['id']}"), 404)
    expired = "000000000000000000000000aa"
    assert_problem(service.get(f"/v1/jobs/{expired}"), 410, "expired")


def test_nothing_of_the_machine_in_answers(service, clips):
    broken = clips["long"].read_bytes()[:-2000]
    for body in (b"junk" * 100, broken):
        text = service.post("/v1/saliency", data=body, headers={"Content-Type": "video/mp4", **WAIT}).text
        assert "/" not in json.loads(text).get("detail", "") and str(service.data) not in text


def test_a_clip_of_a_job_knows_its_frames_afterwards(service, tmp_path, clips):
    """A GIF does not say how many pictures it has; decoding it does."""
    gif = tmp_path / "short.gif"
    subprocess.run(["ffmpeg", "-v", "error", "-i", clips["short"], gif], check=True)
    job = service.finish(service.submit(gif)["id"])
    assert job["state"] == "succeeded"
    assert service.get(f"/v1/clips/{job['clip_id']}").json()["frames"] == job["outputs"]["frames"] == 12


def test_without_a_sandbox(make_service, clips):
    service = make_service("--sandbox", "off", "--max-frames", 100)
    assert service.finish(service.submit(clips["short"])["id"])["state"] == "succeeded"
    with open(clips["long"], "rb") as f:
        assert_problem(service.post("/v1/clips", files={"clip": f}), 413)
    for worker in service.pids("worker"):
        arguments = pathlib.Path(f"/proc/{worker}/cmdline").read_bytes().split(b"\0")
        assert arguments[arguments.index(b"--sandbox") + 1] == b"off"
        assert arguments[arguments.index(b"--max-frames") + 1] == b"100"
