"""Results over HTTP: entity tags, conditions, ranges, archives, and maps that can be read while the job runs."""

import io
import zipfile

import pytest
from PIL import Image

from conftest import assert_problem, wait_for


@pytest.fixture(scope="module")
def done(service, clips):
    return service.finish(service.submit(clips["short"], {"size": "64", "overlay": "true"})["id"])


def paths(job):
    base = f"/v1/jobs/{job['id']}"
    return [f"{base}/maps/3.png", f"{base}/maps/3.jpg", f"{base}/maps.zip", f"{base}/overlay.mp4"]


@pytest.mark.parametrize("which", range(4))
def test_conditions(service, done, which):
    path = paths(done)[which]
    whole = service.get(path)
    tag, date = whole.headers["ETag"], whole.headers["Last-Modified"]
    assert whole.status_code == 200 and tag.startswith('"') and whole.headers["Accept-Ranges"] == "bytes"
    assert int(whole.headers["Content-Length"]) == len(whole.content)
    head = service.request("HEAD", path)
    assert head.headers["ETag"] == tag and head.headers["Content-Length"] == whole.headers["Content-Length"]
    for headers, status in [({"If-None-Match": tag}, 304), ({"If-None-Match": f'"x", W/{tag}'}, 304),
                            ({"If-None-Match": "*"}, 304), ({"If-None-Match": '"x"'}, 200),
                            ({"If-Modified-Since": date}, 304),
                            ({"If-Modified-Since": "Sat, 01 Jan 2000 00:00:00 GMT"}, 200),
                            ({"If-Modified-Since": date, "If-None-Match": '"x"'}, 200),
                            ({"If-Match": tag}, 200), ({"If-Match": "*"}, 200), ({"If-Match": '"x"'}, 412),
                            ({"If-Match": f"W/{tag}"}, 412)]:
        r = service.get(path, headers=headers)
        assert r.status_code == status, headers
        if status == 304:
            assert r.content == b"" and r.headers["ETag"] == tag
        if status == 412:
            assert_problem(r, 412)


@pytest.mark.parametrize("which", range(4))
def test_ranges(service, done, which):
    path = paths(done)[which]
    whole = service.get(path)
    data, n, tag = whole.content, len(whole.content), whole.headers["ETag"]
    good = {"bytes=0-0": (0, 1), "bytes=10-99": (10, 100), "bytes=5-": (5, n), "bytes=-7": (n - 7, n),
            f"bytes=0-{n + 99}": (0, n), f"bytes=-{n + 5}": (0, n), f"bytes={n - 1}-": (n - 1, n)}
    for value, (a, b) in good.items():
        r = service.get(path, headers={"Range": value})
        assert r.status_code == 206 and r.content == data[a:b], value
        assert r.headers["Content-Range"] == f"bytes {a}-{b - 1}/{n}" and r.headers["ETag"] == tag
    for value in (f"bytes={n}-", "bytes=-0", "bytes=99999999999999999999-"):
        r = service.get(path, headers={"Range": value})
        assert_problem(r, 416)
        assert r.headers["Content-Range"] == f"bytes */{n}"
    for value in ("bytes=5-3", "bytes=x-", "lines=0-1", "bytes=0-1,3-4", "bytes=", "bytes=1", "bytes=--1"):
        r = service.get(path, headers={"Range": value})
        assert r.status_code == 200 and r.content == data, value
    assert service.get(path, headers={"Range": "bytes=0-1", "If-Range": tag}).status_code == 206
    assert service.get(path, headers={"Range": "bytes=0-1", "If-Range": '"x"'}).status_code == 200
    assert service.get(path, headers={"Range": "bytes=0-1", "If-Range": "Sat, 01 Jan 2000 00:00:00 GMT"}).status_code == 200


def test_archive_holds_the_maps(service, done):
    z = zipfile.ZipFile(io.BytesIO(service.get(paths(done)[2]).content))
    assert z.testzip() is None and z.namelist() == [f"{n:05d}.png" for n in range(12)]
    for n in range(12):
        assert z.read(f"{n:05d}.png") == service.get(f"/v1/jobs/{done['id']}/maps/{n}.png").content


def test_jpeg_is_the_same_picture(service, done):
    png = Image.open(io.BytesIO(service.get(paths(done)[0]).content))
    jpg = Image.open(io.BytesIO(service.get(paths(done)[1]).content))
    assert jpg.size == png.size and jpg.mode == "L"
    worst = max(abs(a - b) for a, b in zip(png.getdata(), jpg.getdata()))
    assert worst < 40


@pytest.mark.parametrize("n", ["-1", "x", "1e3", "99999999999999999999", "0x1", "", "+1", " 1"])
def test_frame_numbers(service, done, n):
    assert_problem(service.get(f"/v1/jobs/{done['id']}/maps/{n}.png"), 404)


def test_maps_are_there_while_the_job_runs(service, clips):
    job = service.submit(clips["long"], {"size": "256"})
    path = f"/v1/jobs/{job['id']}/maps/0.png"
    wait_for("the first map", lambda: service.get(path).status_code == 200, 60)
    state = service.job(job["id"])
    assert state["state"] == "running" and state["outputs"] is None
    early = service.get(path)
    assert Image.open(io.BytesIO(early.content)).size == (96, 64)
    archive = service.get(f"/v1/jobs/{job['id']}/maps.zip")
    assert_problem(archive, 404, "not_ready")
    assert archive.headers["Retry-After"] == "1"
    service.post(f"/v1/jobs/{job['id']}/cancel")
