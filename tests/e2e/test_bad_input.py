"""Broken media, broken requests, clients that vanish: a clear answer each time, and the service goes on."""

import concurrent.futures
import io
import random
import socket
import struct
import time
import warnings
import zipfile
import zlib

import pytest
import requests

from conftest import SMALL, Service, assert_problem, check_clean, make_video, raw_connection, raw_exchange, wait_for


@pytest.fixture(scope="module")
def limited(tmp_path_factory):
    """A service with small limits."""
    s = Service(tmp_path_factory.mktemp("limited") / "data",
                ["--max-upload", "200K", "--max-frames", "20", "--max-pixels", "20000", "--queue-limit", "3"])
    yield s
    check_clean(s)


def settle(service, response):
    """A refusal, or a job that ends with a reason; returns how it ended."""
    if response.status_code != 202:
        assert 400 <= response.status_code < 500, response.text
        assert_problem(response, response.status_code)
        return response.status_code
    job = service.finish(response.json()["id"], 120)
    if job["state"] == "failed":
        assert job["error"]["code"] and job["error"]["message"]
    else:
        assert job["state"] == "succeeded" and job["outputs"]["frames"] >= 1
    return job["state"]


def check_unharmed(service, before):
    """Nothing crashed, nothing leaked."""
    assert service.get("/healthz").status_code == 200
    assert service.pids("worker") == before, "a worker died"
    wait_for("temporary files to go", lambda: not service.temp_files(), 15)


def test_reference_bad_media(service, shared):
    files = sorted(p for p in (shared / "data" / "bad-media").rglob("*") if p.is_file())
    assert len(files) > 50
    workers = service.pids("worker")

    def post(path):
        with open(path, "rb") as f:
            return path, service.post("/v1/saliency", files={"clip": ("upload", f)}, params=SMALL)

    outcomes = {}
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for path, response in pool.map(post, files):
            outcomes[path.name] = settle(service, response)
    print({o: list(outcomes.values()).count(o) for o in set(outcomes.values())})
    assert list(outcomes.values()).count("succeeded") >= 10
    for name in ("mp3.mp3", "pdf.pdf", "wav.wav", "svg.svg"):
        assert outcomes[name] in (415, 422), name
    check_unharmed(service, workers)


def hostile_files(clips):
    """Damage of every kind to small files of every kind, the same in each run."""
    rng = random.Random(4)
    for name in ("short", "picture.png", "picture.jpg", "frames.zip"):
        data = clips[name].read_bytes()
        for n in range(2):  # a few bytes changed; changed near the start, where the structure is told; a stretch of zeros; a hole
            flipped, head, at = bytearray(data), bytearray(data), rng.randrange(len(data))
            for _ in range(8):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                head[rng.randrange(min(200, len(data)))] = rng.randrange(256)
            yield f"{name} bits {n}", bytes(flipped)
            yield f"{name} head {n}", bytes(head)
            yield f"{name} zeros {n}", data[:at] + bytes(min(500, len(data) - at)) + data[at + 500:]
            yield f"{name} hole {n}", data[:at] + data[at + 100:]
        yield f"{name} twice", data + data
        yield f"{name} noise behind", data + rng.randbytes(1000)
    yield "only noise", rng.randbytes(5000)
    yield "text", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    yield "concat", b"ffconcat version 1.0\nfile /etc/passwd\n"
    yield "svg", b"<svg xmlns='http://www.w3.org/2000/svg'><image href='file:///etc/passwd'/></svg>"
    yield "empty gif", b"GIF89a\x10\x00\x10\x00\x00\x00\x00;"
    yield "webm without frames", bytes.fromhex("1a45dfa39f4286810142f7810142f2810442f381084282847765626d42878104428581021853806700")
    yield "mp4 without frames", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2\x00\x00\x00\x08moov\x00\x00\x00\x08mdat"
    yield "mp4 of endless boxes", b"\x00\x00\x00\x18ftypisom\x00\x00\x02\x00isomiso2" + b"\x00\x00\x00\x09moov\x00" * 500
    yield "box larger than everything", b"\x00\x00\x00\x01ftyp\x7f\xff\xff\xff\xff\xff\xff\xffisom" + bytes(100)
    yield "zip end alone", b"PK\x05\x06" + b"\xff" * 18
    for names in (["../../etc/x.png"], ["/etc/x.png"], ["a.png", "a.png"], ["a.txt"], [], ["a/" * 200 + "x.png"]):
        out = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
            warnings.simplefilter("ignore")  # of the doubled name
            for name in names:
                z.writestr(name, clips["picture.png"].read_bytes())
        yield f"zip of {[n[:20] for n in names]}", out.getvalue()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("a.png", bytes(50_000_000))
    yield "zip bomb", out.getvalue()


def test_hostile_files(service, clips):
    workers = service.pids("worker")
    starts = service.log().count("process started")

    def post(item):
        return item[0], service.post("/v1/saliency", data=item[1], params=SMALL, headers={"Content-Type": "video/mp4"})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        outcomes = {name: settle(service, response) for name, response in pool.map(post, hostile_files(clips))}
    assert len(outcomes) > 50
    for name, outcome in outcomes.items():
        if not name.startswith(("short ", "picture", "frames.zip ", "zip of ['a")):
            assert outcome in (400, 413, 415, 422), (name, outcome)
    assert service.log().count("process started") == starts, "a process died"
    check_unharmed(service, workers)


def test_slow_uploads_do_not_hold_others_up(make_service, tmp_path):
    """Clips that take long to count occupy some of the threads that answer requests, not all."""
    clip = make_video(tmp_path / "long.mp4", 9000, (64, 48))
    service = make_service("--handlers", 4)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        slow = [pool.submit(requests.post, service.url + "/v1/clips", data=clip.read_bytes() + bytes(n),
                            headers={"Content-Type": "video/mp4"}, timeout=120) for n in range(6)]
        wait_for("the first to be decoded", lambda: service.temp_files(), 10)
        time.sleep(0.2)
        for path in ("/v1/jobs", "/v1/clips"):
            assert service.get(path).status_code == 200
        assert not any(s.done() for s in slow), "answered only when a slow request was done"
        assert {s.result().status_code for s in slow} == {201}
    assert service.get("/v1/clips").json()["items"][0]["frames"] == 9000


def cut_short(clips):
    for name in ("short", "picture.png", "picture.jpg", "frames.zip"):
        data = clips[name].read_bytes()
        for part in (0.02, 0.3, 0.6, 0.9):
            yield name, data[:int(len(data) * part)]


def test_truncated_files(service, clips):
    workers = service.pids("worker")
    for name, data in cut_short(clips):
        outcome = settle(service, service.post("/v1/saliency", files={"clip": (name, data)}, params=SMALL))
        assert outcome != "succeeded", f"{name} cut to {len(data)} bytes"
    check_unharmed(service, workers)


def png_of_claimed_size(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))


@pytest.mark.parametrize("size", [(0, 10), (2 ** 31 - 1, 2 ** 31 - 1), (65535, 65535), (200000, 1)])
def test_absurd_sizes(service, size):
    r = service.post("/v1/saliency", data=png_of_claimed_size(*size), headers={"Content-Type": "image/png"})
    assert r.status_code in (413, 415, 422)
    assert_problem(r, r.status_code)


def test_limits(limited, clips):
    with open(clips["long"], "rb") as f:
        assert_problem(limited.post("/v1/clips", files={"clip": f}), 413)
    big = b"\x00" * 300_000
    assert_problem(limited.post("/v1/clips", data=big, headers={"Content-Type": "video/mp4"}), 413, "too_large")
    chunked = (big[:1000] for _ in range(300))
    assert_problem(limited.post("/v1/clips", data=chunked, headers={"Content-Type": "video/mp4"}), 413, "too_large")
    r = limited.post("/v1/clips", data=png_of_claimed_size(400, 300), headers={"Content-Type": "image/png"})
    assert_problem(r, 413)
    assert not limited.temp_files()


def test_too_large_is_refused_before_it_is_sent(limited):
    with raw_connection(limited) as s:
        s.sendall(b"POST /v1/clips HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: 99999999999\r\n"
                  b"Expect: 100-continue\r\n\r\n")
        answer = s.recv(65536)
    assert answer.startswith(b"HTTP/1.1 413 ") and b"100 Continue" not in answer


def test_queue_full(make_service, clips):
    service = make_service("--queue-limit", 2)
    running = service.submit(clips["long"], {"size": "160"})
    wait_for("the job to run", lambda: service.job(running["id"])["state"] == "running")
    waiting = [service.submit(clips["short"]) for _ in range(2)]
    assert [service.job(j["id"])["queue_position"] for j in waiting] == [1, 2]
    with open(clips["short"], "rb") as f:
        r = service.post("/v1/saliency", files={"clip": f}, params=SMALL)
    assert_problem(r, 429, "queue_full")
    assert int(r.headers["Retry-After"]) >= 1
    service.post(f"/v1/jobs/{running['id']}/cancel")
    for job in waiting:
        assert service.finish(job["id"])["state"] == "succeeded"
    wait_for("room in the queue", lambda: service.post(
        "/v1/saliency", files={"clip": clips["short"].read_bytes()}, params=SMALL).status_code == 202)


def test_clients_that_vanish(service, clips):
    workers = service.pids("worker")
    body = clips["long"].read_bytes()
    head = (b"POST /v1/saliency HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: %d\r\n\r\n" % len(body))
    for sent in (0, 10, len(body) // 2, len(body) - 1):
        for abort in (False, True):
            s = raw_connection(service)
            s.sendall(head + body[:sent])
            time.sleep(0.05)
            if abort:  # a reset instead of an end
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
    check_unharmed(service, workers)


def test_clients_that_vanish_while_they_wait(service, clips):
    job = service.submit(clips["short"])
    for path in (f"/v1/jobs/{job['id']}/events", f"/v1/jobs/{job['id']}/maps.zip"):
        s = raw_connection(service)
        s.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        s.close()
    body = clips["picture.png"].read_bytes()
    s = raw_connection(service)
    s.sendall(b"POST /v1/saliency?size=64 HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=30\r\nContent-Type: image/png\r\n"
              b"Content-Length: %d\r\n\r\n" % len(body) + body)
    s.close()
    assert service.finish(job["id"])["state"] == "succeeded"


@pytest.mark.parametrize("request_bytes", [
    b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    b"POST /v1/clips HTTP/1.1\r\nHost: localhost\r\nContent-Length: zz\r\n\r\n",
    b"POST /v1/clips HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-Big: " + b"y" * 200_000 + b"\r\n\r\n",
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 20_000 + b"\r\n"])
def test_not_http(service, request_bytes):
    answer = raw_exchange(service, request_bytes)
    assert answer == b"" or answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4"))
    assert service.get("/healthz").status_code == 200


def test_slow_senders_do_not_hold_others_up(service):
    slow = [raw_connection(service) for _ in range(50)]
    for s in slow:
        s.sendall(b"POST /v1/clips HTTP/1.1\r\nHost: localhost\r\nContent-Type: video/mp4\r\nContent-Length: 1000\r\n\r\nab")
    start = time.monotonic()
    for _ in range(20):
        assert service.get("/healthz").status_code == 200
    assert time.monotonic() - start < 5
    for s in slow:
        s.close()
