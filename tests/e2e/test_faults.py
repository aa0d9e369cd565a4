"""Processes that die, disks that fill, services that end: no accepted job is lost, none is done twice."""

import os
import re
import resource
import signal
import subprocess
import threading
import time

import pytest

from conftest import LONG, SMALL, alive, assert_problem, read_events, wait_for

SLOW = {"size": "256"}  # a few frames a second: slow enough to be caught in the middle


def running(service, job):
    return wait_for("the job to run",
                    lambda: (lambda j: j if j["state"] == "running" and j["progress"]["done"] > 0 else None)(
                        service.job(job["id"])), 60)


def check_all_maps_once(service, job, frames):
    assert job["state"] == "succeeded", job
    assert job["progress"] == {"done": frames, "total": frames, "unit": "frames"}
    def maps():
        return list((service.data / "blobs" / "jobs" / job["id"]).rglob("*.png"))

    wait_for("maps of attempts that died to go", lambda: len(maps()) <= frames, 90)
    stored = maps()
    assert len(stored) == frames and len({p.name for p in stored}) == frames
    assert len({p.parent for p in stored}) == 1, "maps of more than one attempt are left"
    for n in (0, frames // 2, frames - 1):
        assert service.get(f"/v1/jobs/{job['id']}/maps/{n}.png").status_code == 200


def test_worker_killed_in_the_middle(make_service, clips):
    service = make_service()
    job = service.submit(clips["long"], {"size": "96"})
    running(service, job)
    victim, = service.pids("worker")
    os.kill(victim, signal.SIGKILL)
    start = time.monotonic()
    wait_for("the next attempt", lambda: service.job(job["id"])["attempt"] == 2)
    assert time.monotonic() - start < 10, "the job waited for its lease instead of its supervisor"
    done = service.finish(job["id"], 120)
    assert done["attempt"] == 2
    check_all_maps_once(service, done, LONG)
    states = [e["data"]["state"] for e in read_events(service.get(f"/v1/jobs/{job['id']}/events", stream=True))
              if e["event"] == "state"]
    assert states.count("succeeded") == 1 and states.count("running") == 2


def test_a_job_that_kills_its_workers_fails_with_the_reason(make_service, clips):
    service = make_service()
    job = service.submit(clips["long"], SLOW)
    for attempt in (1, 2, 3):
        wait_for(f"attempt {attempt}", lambda: (lambda j: j["attempt"] == attempt and j["state"] == "running")(
            service.job(job["id"])), 60)
        for pid in service.pids("worker"):
            os.kill(pid, signal.SIGKILL)
    failed = service.finish(job["id"])
    assert failed["state"] == "failed" and failed["attempt"] == 3
    assert "signal 9" in failed["error"]["message"]
    assert service.finish(service.submit(clips["picture.png"])["id"])["state"] == "succeeded"


def test_decoder_killed(make_service, clips):
    service = make_service()
    for _ in range(2):
        os.kill(service.pids("decoder")[0], signal.SIGKILL)
        assert service.finish(service.submit(clips["picture.png"])["id"])["state"] == "succeeded"


def test_two_workers_do_each_job_once(make_service, clips):
    service = make_service("--workers", 2)
    wait_for("both workers", lambda: "salient_workers_seen 2\n" in service.get("/metrics").text)
    assert len(service.pids("worker")) == 2
    jobs = [service.submit(clips["short"] if k % 2 else clips["picture.png"]) for k in range(10)]
    for k, job in enumerate(jobs):
        done = service.finish(job["id"])
        assert done["attempt"] == 1
        check_all_maps_once(service, done, 12 if k % 2 else 1)
    begun = re.findall(r'msg="attempt begins" worker=(\w+) job=(\w+)', service.log())
    assert len(begun) == 10 and len({j for _, j in begun}) == 10
    assert len({w for w, _ in begun}) == 2, "one worker did everything"


def test_service_killed_and_started_again(make_service, clips):
    service = make_service()
    done = service.finish(service.submit(clips["short"])["id"])
    long = service.submit(clips["long"], {"size": "96"})
    waiting = [service.submit(clips["picture.png"]) for _ in range(3)]
    running(service, long)
    orphans = service.pids("worker") + service.pids("decoder")
    for pid in service.pids("worker"):
        os.kill(pid, signal.SIGKILL)
    service.kill()
    wait_for("its processes to end", lambda: not any(alive(p) for p in orphans), 60)
    service = make_service("--lease", 3)
    assert service.job(done["id"])["state"] == "succeeded"
    assert service.get(f"/v1/jobs/{done['id']}/maps/0.png").status_code == 200
    for job in waiting:
        assert service.finish(job["id"])["state"] == "succeeded"
    check_all_maps_once(service, service.finish(long["id"], 120), LONG)


def test_drain_finishes_the_running_job(make_service, clips):
    service = make_service("--grace", 90)
    job = service.submit(clips["long"], SMALL)
    running(service, job)
    seen = []
    follower = threading.Thread(target=lambda: seen.append(read_events(
        service.get(f"/v1/jobs/{job['id']}/events", stream=True))))
    follower.start()
    time.sleep(0.3)
    service.process.send_signal(signal.SIGTERM)
    wait_for("the service to say so", lambda: "msg=draining" in service.log())
    try:
        assert_problem(service.get("/readyz"), 503, "draining")
        assert_problem(service.post("/v1/saliency", data=b"x", headers={"Content-Type": "image/png"}), 503, "draining")
    except OSError:
        pass  # it had finished already
    assert service.process.wait(120) == 0
    follower.join(10)
    assert not follower.is_alive() and seen, "the stream was not closed"
    service.stop()
    service = make_service()
    done = service.job(job["id"])
    assert done["state"] == "succeeded" and done["attempt"] == 1
    check_all_maps_once(service, done, LONG)


def test_drain_gives_a_long_job_back(make_service, clips):
    service = make_service("--grace", 1)
    job = service.submit(clips["long"], {"size": "160"})
    running(service, job)
    start = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - start < 15
    service = make_service("--workers", 0, ready=False)
    state = service.job(job["id"])
    assert state["state"] == "queued" and state["attempt"] == 0, "a drained attempt must not count"
    assert not list((service.data / "blobs" / "jobs" / job["id"]).rglob("*.png"))


def test_no_worker(make_service, clips):
    service = make_service("--workers", 0, ready=False)
    assert_problem(service.get("/readyz"), 503, "no_worker")
    r = service.post("/v1/saliency", data=clips["picture.png"].read_bytes(), headers={"Content-Type": "image/png"})
    assert_problem(r, 503, "no_worker")
    assert service.get("/healthz").status_code == 200
    assert service.post("/v1/clips", files={"clip": clips["picture.png"].read_bytes()}).status_code == 201


def small_disk(path, megabytes):
    path.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", path],
                                           capture_output=True).returncode != 0:
        pytest.skip("SKIPPED: cannot mount a small file system here")


@pytest.fixture
def tiny_disk(tmp_path):
    path = tmp_path / "disk"
    small_disk(path, 24)
    yield path
    subprocess.run(["umount", "-l", path], check=False)


def test_full_disk(tiny_disk, make_service, clips):
    service = make_service("--min-free", "1M", name="disk/data")
    assert service.finish(service.submit(clips["picture.png"])["id"])["state"] == "succeeded"
    job = service.submit(clips["long"], {"size": "96"})
    running(service, job)
    (tiny_disk / "filler").write_bytes(b"")
    with open(tiny_disk / "filler", "wb", buffering=0) as f:
        try:
            while True:
                f.write(b"\0" * 65536)
        except OSError:
            pass
    r = service.post("/v1/clips", data=os.urandom(500_000), headers={"Content-Type": "video/mp4"})
    assert_problem(r, 507, "storage_full")
    assert service.get("/healthz").status_code == 200
    wait_for("readiness to tell", lambda: service.get("/readyz").status_code == 503, 20)
    time.sleep(3)
    (tiny_disk / "filler").unlink()
    wait_for("readiness to come back", lambda: service.get("/readyz").status_code == 200, 30)
    ended = service.finish(job["id"], 90)
    assert ended["state"] == "succeeded" or ended["error"]["code"] in ("full", "io"), ended
    assert service.finish(service.submit(clips["short"])["id"])["state"] == "succeeded"
    wait_for("temporary files to go", lambda: not service.temp_files(), 15)


def test_file_size_limit(make_service):
    """A quota stops an upload, not the service."""
    service = make_service(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)))
    r = service.post("/v1/clips", data=bytes(3_000_000), headers={"Content-Type": "video/mp4"})
    assert_problem(r, 507, "storage_full")
    assert service.get("/healthz").status_code == 200
    wait_for("temporary files to go", lambda: not service.temp_files(), 15)


def test_file_size_limit_leaves_room_for_small_clips(make_service, clips):
    service = make_service(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)))
    assert service.finish(service.submit(clips["short"])["id"])["state"] == "succeeded"
