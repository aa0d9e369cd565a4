"""Fixtures for tests against the real binary: services with their own port and data, clips, and the shared reference data."""

import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
import zipfile

import numpy as np
import pytest
import requests
from PIL import Image

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("SALIENT", ROOT / "build" / "salient")).resolve()
LONG = 160  # frames of the clip that is still being worked on when a test interferes
SMALL = {"size": "64"}  # the smallest network input: tests are about the service, not about the maps


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes more than a few seconds; not part of `make test`")


def children_of(pid):
    """Process ids of the direct children of a process."""
    try:
        tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
        return [int(c) for t in tasks for c in (t / "children").read_text().split()]
    except FileNotFoundError:
        return []


def command_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[1].decode()
    except (FileNotFoundError, IndexError):
        return ""


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_for(what, condition, timeout=30, step=0.05):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout} s for {what}")
        time.sleep(step)


class Service:
    """One running `salient serve`. Leaves a log, and must end cleanly."""

    def __init__(self, data, args=(), env=None, preexec=None, ready=True):
        self.data = pathlib.Path(data)
        self.log_path = self.data.parent / f"{self.data.name}.log"
        self.log_file = open(self.log_path, "ab")
        self.log_start = self.log_file.tell()
        command = [str(BINARY), "serve", "--listen", "127.0.0.1:0", "--data", str(self.data), *map(str, args)]
        self.process = subprocess.Popen(command, stderr=self.log_file, stdout=self.log_file, cwd=ROOT,
                                        env={**os.environ, **(env or {})}, preexec_fn=preexec)
        self.url = wait_for("the service to listen", self._find_url, 30)
        self.http = requests.Session()
        if ready:
            wait_for("the service to be ready", lambda: self.get("/readyz").status_code == 200, 60)

    def _find_url(self):
        found = re.search(r"msg=listening url=(\S+)", self.log())
        if not found and self.process.poll() is not None:
            raise AssertionError(f"the service ended at its start:\n{self.log()}")
        return found and found.group(1)

    def log(self):
        with open(self.log_path, "rb") as f:
            f.seek(self.log_start)
            return f.read().decode(errors="replace")

    def request(self, method, path, **kw):
        kw.setdefault("timeout", 90)
        return self.http.request(method, self.url + path, **kw)

    def get(self, path, **kw):
        return self.request("GET", path, **kw)

    def post(self, path, **kw):
        return self.request("POST", path, **kw)

    def submit(self, clip, params=SMALL, status=202, **kw):
        """POSTs a clip (a path) and returns the job."""
        with open(clip, "rb") as f:
            r = self.post("/v1/saliency", files={"clip": (pathlib.Path(clip).name, f)}, params=params, **kw)
        assert r.status_code == status, r.text
        return r.json()

    def job(self, job_id):
        r = self.get(f"/v1/jobs/{job_id}")
        assert r.status_code == 200, r.text
        return r.json()

    def finish(self, job_id, timeout=180):
        """Waits for the job's final state and returns it."""
        def final():
            job = self.job(job_id)
            return job if job["state"] in ("succeeded", "failed", "canceled") else None
        return wait_for(f"job {job_id}", final, timeout)

    def pids(self, command):
        return [p for p in children_of(self.process.pid) if command_of(p) == command]

    def resident_bytes(self):
        """Of all processes of the service together, counting shared pages once (PSS)."""
        total = 0
        for pid in [self.process.pid, *children_of(self.process.pid)]:
            try:
                text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
                total += int(re.search(r"^Pss:\s+(\d+)", text, re.M).group(1)) * 1024
            except (FileNotFoundError, ProcessLookupError, AttributeError):
                pass
        return total

    def temp_files(self):
        return list((self.data / "blobs" / ".tmp").glob("*")) if self.data.exists() else []

    def stop(self, timeout=40, sig=signal.SIGTERM):
        """Ends the service; returns its exit status. Nothing of it may be left."""
        if self.process.poll() is None:
            family = children_of(self.process.pid)
            self.process.send_signal(sig)
            self.process.wait(timeout)
            wait_for("the service's children to end", lambda: not any(alive(p) for p in family), 10)
        self.http.close()
        self.log_file.close()
        return self.process.returncode

    def kill(self):
        self.process.kill()
        self.process.wait()


def check_clean(service):
    status = service.stop()
    log = service.log()
    for bad in ("AddressSanitizer", "runtime error:", "ThreadSanitizer", "LeakSanitizer", "BUG"):
        assert bad not in log, log[-4000:]
    assert status == 0, f"exit status {status}\n{log[-4000:]}"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service that the tests of a module share."""
    s = Service(tmp_path_factory.mktemp("service") / "data")
    yield s
    check_clean(s)


@pytest.fixture
def make_service(tmp_path):
    """Starts services of its own for a test: make_service("--workers", 2, name="a", env={...})."""
    made = []

    def make(*args, name="data", **kw):
        s = Service(tmp_path / name, args, **kw)
        made.append(s)
        return s

    yield make
    for s in made:
        if s.process.poll() is None:
            check_clean(s)


# ---- clips ----------------------------------------------------------------------------------------------------------

def make_video(path, frames=12, size=(96, 64), rate=10, codec="libx264"):
    """A moving bright disc over a gradient."""
    raw = bytearray()
    y, x = np.mgrid[0:size[1], 0:size[0]]
    for n in range(frames):
        picture = np.stack([x * 2 % 256, y * 3 % 256, (x + y) % 256], axis=-1).astype(np.uint8) // 2
        picture[(x - 10 - 3 * n % size[0]) ** 2 + (y - size[1] // 2) ** 2 < 120] = (250, 220, 40)
        raw += picture.tobytes()
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{size[0]}x{size[1]}",
                    "-r", str(rate), "-i", "-", "-c:v", codec, "-pix_fmt", "yuv420p", str(path)],
                   input=bytes(raw), check=True)
    return path


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """Small valid clips by name."""
    d = tmp_path_factory.mktemp("clips")
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 255, (48, 80, 3), dtype=np.uint8))
    picture.save(d / "picture.png")
    picture.save(d / "picture.jpg")
    with zipfile.ZipFile(d / "frames.zip", "w") as z:
        for n in range(5):
            z.write(d / "picture.png", f"walk/{n:05d}.png")
    make_video(d / "short.mp4", 12)
    make_video(d / "other.mp4", 13)
    make_video(d / "long.mp4", LONG)
    return {p.stem if p.suffix == ".mp4" else p.name: p for p in d.iterdir()}


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data; tests that need it skip without."""
    path = pathlib.Path(os.environ.get("SALIENT_SHARED", ROOT.parent / "shared"))
    if not path.is_dir():
        pytest.skip(f"SKIPPED: no reference data at {path} (set SALIENT_SHARED)")
    return path


# ---- small tools ----------------------------------------------------------------------------------------------------

def assert_problem(response, status, code=None):
    """The response is a problem+json document of that status."""
    assert response.status_code == status, f"{response.status_code}: {response.text}"
    assert response.headers["Content-Type"] == "application/problem+json"
    doc = response.json()
    assert doc["status"] == status and doc["title"] and doc["type"] and doc["detail"]
    assert doc["request_id"] == response.headers["X-Request-Id"]
    assert re.fullmatch(r"[a-z0-9_]+", doc["code"])
    if code:
        assert doc["code"] == code, doc
    return doc


def raw_connection(service):
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=10)


def raw_exchange(service, data, finish=True):
    """Sends bytes as they are and returns all that comes back until the service closes."""
    with raw_connection(service) as s:
        answer = b""
        try:
            s.sendall(data)
            if finish:
                s.shutdown(socket.SHUT_WR)
            while chunk := s.recv(65536):
                answer += chunk
        except OSError:
            pass  # cut off: what came until then counts
        return answer


def read_events(response, limit=None):
    """Events of a text/event-stream response: dicts with id, event, data."""
    events, current = [], {}
    for line in response.iter_lines(chunk_size=1, decode_unicode=True):
        if line == "":
            if "data" in current:
                current["data"] = json.loads(current["data"])
                events.append(current)
                if limit and len(events) >= limit:
                    break
            current = {}
        elif not line.startswith(":"):
            key, _, value = line.partition(": ")
            current[key] = value
    return events

