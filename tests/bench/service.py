"""What a client sees of `salient serve`: frames per second from POST to the last map, memory of all its processes, and how long
submitting a job takes while many streams and pollers are attached.

The clip is a 480p sequence of the reference data ($SALIENT_SHARED, else ../shared) as H.264, or a generated one without it.
Prints one line of JSON for each part.

usage: SALIENT=build/salient python tests/bench/service.py [--frames 80] [--parts rate,memory,submit] [--streams 200] [--pollers 200]
"""
import argparse
import asyncio
import concurrent.futures
import http.client
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARED = pathlib.Path(os.environ.get("SALIENT_SHARED", ROOT.parent / "shared"))
BINARY = pathlib.Path(os.environ.get("SALIENT", ROOT / "build" / "salient")).resolve()
TYPE = {"Content-Type": "video/mp4"}


# ---- the service ----------------------------------------------------------------------------------------------------

class Service:
    def __init__(self, data, *args):
        self.log_path = pathlib.Path(data).with_suffix(".log")
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen([BINARY, "serve", "--listen", "127.0.0.1:0", "--data", data, *map(str, args)],
                                            stdout=log, stderr=log, start_new_session=True)
        while not (found := re.search(r"url=http://([\d.]+):(\d+)", self.log_path.read_text())):
            assert self.process.poll() is None, self.log_path.read_text()
            time.sleep(0.02)
        self.host, self.port = found.group(1), int(found.group(2))
        while self.request("GET", "/readyz")[0] != 200:
            time.sleep(0.05)

    def request(self, method, path, body=None, headers=None):
        c = http.client.HTTPConnection(self.host, self.port, timeout=600)
        c.request(method, path, body=body, headers=headers or {})
        r = c.getresponse()
        answer = r.status, r.read()
        c.close()
        return answer

    def processes(self):
        """All of its session: also decoders, which are nobody's direct children."""
        for p in pathlib.Path("/proc").iterdir():
            try:
                if p.name.isdigit() and os.getsid(int(p.name)) == self.process.pid:
                    yield p
            except ProcessLookupError:
                pass

    def pss_bytes(self):
        total = 0
        for p in self.processes():
            try:
                total += 1024 * int(re.search(r"^Pss:\s+(\d+)", (p / "smaps_rollup").read_text(), re.M).group(1))
            except (OSError, AttributeError):
                pass
        return total

    def cpu_s(self):
        """Of the processes that live now and of those they have waited for."""
        ticks = 0
        for p in self.processes():
            try:
                ticks += sum(map(int, (p / "stat").read_text().rsplit(")", 1)[1].split()[11:15]))
            except OSError:
                pass
        return ticks / os.sysconf("SC_CLK_TCK")

    def finish(self, job_id):
        while True:
            job = json.loads(self.request("GET", f"/v1/jobs/{job_id}")[1])
            if job["state"] in ("succeeded", "failed", "canceled"):
                assert job["state"] == "succeeded", job
                return job
            time.sleep(0.02)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(60) == 0


class Peak(threading.Thread):
    """The largest sum of PSS seen."""

    def __init__(self, service):
        super().__init__(daemon=True)
        self.service, self.bytes, self.stopping = service, 0, threading.Event()

    def run(self):
        while not self.stopping.wait(0.2):
            self.bytes = max(self.bytes, self.service.pss_bytes())

    def stop(self):
        self.stopping.set()
        self.join()
        return self.bytes


# ---- clips ----------------------------------------------------------------------------------------------------------

def make_clip(path, frames):
    source = SHARED / "data" / "video" / "JPEGImages" / "blackswan"
    if source.is_dir():
        pictures = ["-stream_loop", "-1", "-framerate", "24", "-i", source / "%05d.jpg"]
    else:
        print(f"no {source}: a generated clip", file=sys.stderr)
        pictures = ["-f", "lavfi", "-i", "mandelbrot=size=854x480:rate=24"]
    subprocess.run(["ffmpeg", "-v", "error", "-y", *pictures, "-frames:v", str(frames), "-c:v", "libx264", "-crf", "20",
                    "-pix_fmt", "yuv420p", path], check=True)
    return path.read_bytes()


def make_tiny(path):
    subprocess.run(["ffmpeg", "-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=96x64:rate=10", "-frames:v", "4", "-c:v",
                    "libx264", "-pix_fmt", "yuv420p", path], check=True)
    return path.read_bytes()


# ---- rate and memory ------------------------------------------------------------------------------------------------

def run_clip(service, clip, frames):
    cpu, since = service.cpu_s(), time.monotonic()
    status, body = service.request("POST", "/v1/saliency", clip, TYPE)
    assert status == 202, body
    accepted = time.monotonic() - since
    job = service.finish(json.loads(body)["id"])
    status, last = service.request("GET", f"/v1/jobs/{job['id']}/maps/{frames - 1}.png")
    wall = time.monotonic() - since
    assert status == 200 and last.startswith(b"\x89PNG") and job["outputs"]["frames"] == frames
    return {"frames": frames, "fps": round(frames / wall, 2), "accepted_ms": round(accepted * 1000, 1),
            "cpu_ms_per_frame": round((service.cpu_s() - cpu) * 1000 / frames, 1), "timings_ms": job["outputs"]["timings_ms"]}


def measure_rate(folder, frames, rounds):
    clip = make_clip(folder / "clip.mp4", frames)
    service = Service(folder / "rate")
    runs = [run_clip(service, clip, frames) for _ in range(rounds + 1)]
    service.stop()
    print(json.dumps({"part": "rate", "first": runs[0]["fps"],
                      "fps": statistics.median(r["fps"] for r in runs[1:]), "runs": runs}), flush=True)


def measure_memory(folder, frames):
    peaks = {}
    for n in (frames, 10 * frames):
        clip = make_clip(folder / f"clip{n}.mp4", n)
        service = Service(folder / f"memory{n}")
        peak = Peak(service)
        peak.start()
        run_clip(service, clip, n)
        peaks[n] = peak.stop()
        service.stop()
    short, long = peaks.values()
    print(json.dumps({"part": "memory", "peak_mb": {n: round(b / 1e6, 1) for n, b in peaks.items()},
                      "growth": round(long / short - 1, 3)}), flush=True)


# ---- submission -----------------------------------------------------------------------------------------------------

async def open_stream(service, job_id):
    reader, writer = await asyncio.open_connection(service.host, service.port)
    writer.write(f"GET /v1/jobs/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    return reader, writer


async def drain(reader):
    while await reader.read(65536):
        pass


async def exchange(reader, writer, request):
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(re.search(rb"content-length: (\d+)", head, re.I).group(1))
    return int(head.split(b" ", 2)[1]), await reader.readexactly(length)


async def poll(service, job_id, delay):
    """One that asks for a job's state once a second on a connection it keeps."""
    reader, writer = await asyncio.open_connection(service.host, service.port)
    await asyncio.sleep(delay)
    while True:
        await exchange(reader, writer, f"GET /v1/jobs/{job_id} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await asyncio.sleep(1)


async def attach(service, job_id, streams, pollers):
    tasks = []
    for _ in range(streams):
        tasks.append(asyncio.create_task(drain((await open_stream(service, job_id))[0])))
    for i in range(pollers):
        tasks.append(asyncio.create_task(poll(service, job_id, i / pollers)))
    await asyncio.sleep(0.5)
    return tasks


def submit_many(host, port, tiny, n, pause_s):
    """In a process of its own, so that the followers' event loop does not stand in what is measured."""
    c = http.client.HTTPConnection(host, port)
    took = []
    for i in range(n):
        since = time.monotonic()
        c.request("POST", "/v1/saliency?size=64", body=tiny + b"\0" * i, headers=TYPE)  # each another file
        r = c.getresponse()
        r.read()
        took.append((time.monotonic() - since) * 1000)
        assert r.status == 202, r.status
        time.sleep(pause_s)
    return sorted(took)


async def submit_beside(service, tiny, followed, streams, pollers, n):
    """Submits n tiny jobs while clients follow a job, and reports how long each took to be accepted."""
    tasks = await attach(service, followed, streams, pollers)
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        took = await asyncio.get_running_loop().run_in_executor(pool, submit_many, service.host, service.port, tiny, n, 0.02)
    for t in tasks:
        t.cancel()
    print(json.dumps({"part": "submit", "streams": streams, "pollers": pollers, "n": n,
                      **{f"p{q}_ms": round(took[n * q // 100], 2) for q in (50, 90, 99)}, "max_ms": round(took[-1], 2)}), flush=True)


async def measure_submit(folder, streams, pollers, n):
    tiny = make_tiny(folder / "tiny.mp4")
    service = Service(folder / "submit", "--queue-limit", 0)
    done = json.loads(service.request("POST", "/v1/saliency?size=64", tiny + b"first", TYPE)[1])["id"]
    service.finish(done)
    print("the worker runs only what is submitted", file=sys.stderr)
    await submit_beside(service, tiny + b"a", done, 0, pollers, n)
    print("the worker runs a long job, whose progress the streams get", file=sys.stderr)
    long = json.loads(service.request("POST", "/v1/saliency", make_clip(folder / "long.mp4", 800), TYPE)[1])["id"]
    while json.loads(service.request("GET", f"/v1/jobs/{long}")[1])["state"] == "queued":
        time.sleep(0.05)
    await submit_beside(service, tiny + b"b", long, streams, pollers, n)
    service.request("POST", f"/v1/jobs/{long}/cancel")
    service.stop()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--frames", type=int, default=80)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--parts", default="rate,memory,submit")
    p.add_argument("--streams", type=int, default=200)
    p.add_argument("--pollers", type=int, default=200)
    p.add_argument("--submissions", type=int, default=300)
    a = p.parse_args()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="salient-bench-"))
    try:
        if "rate" in a.parts:
            measure_rate(folder, a.frames, a.rounds)
        if "memory" in a.parts:
            measure_memory(folder, a.frames)
        if "submit" in a.parts:
            asyncio.run(measure_submit(folder, a.streams, a.pollers, a.submissions))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
