"""Server-sent events of a job."""

import threading
import time

from conftest import assert_problem, read_events, wait_for


def stream(service, job_id, last=None, **kw):
    headers = {"Accept": "text/event-stream", **({"Last-Event-ID": str(last)} if last is not None else {})}
    return service.get(f"/v1/jobs/{job_id}/events", headers=headers, stream=True, **kw)


def test_events_from_queue_to_end(service, clips):
    job = service.submit(clips["short"])
    r = stream(service, job["id"])
    assert r.headers["Content-Type"] == "text/event-stream" and r.headers["Cache-Control"] == "no-store"
    events = read_events(r)
    ids = [int(e["id"]) for e in events]
    assert ids == sorted(set(ids))
    states = [e["data"]["state"] for e in events if e["event"] == "state"]
    assert states[-1] == "succeeded" and states[0] == "queued" and "running" in states
    progress = [e["data"]["done"] for e in events if e["event"] == "progress"]
    assert progress and progress == sorted(progress) and progress[-1] == 12


def test_replay(service, clips):
    job = service.finish(service.submit(clips["picture.png"])["id"])
    everything = read_events(stream(service, job["id"]))
    middle = int(everything[1]["id"])
    rest = read_events(stream(service, job["id"], middle))
    assert rest == everything[2:]
    assert stream(service, job["id"], everything[-1]["id"]).status_code == 204
    assert read_events(stream(service, job["id"], "nonsense")) == everything


def test_two_streams_see_the_same(service, clips):
    job = service.submit(clips["long"], {"size": "224"})
    got = {}
    threads = [threading.Thread(target=lambda k=k: got.update({k: read_events(stream(service, job["id"]))}))
               for k in range(2)]
    for t in threads:
        t.start()
    wait_for("the job to run", lambda: service.job(job["id"])["state"] == "running")
    service.post(f"/v1/jobs/{job['id']}/cancel")
    for t in threads:
        t.join(30)
    states = [[e["data"]["state"] for e in got[k] if e["event"] == "state"] for k in range(2)]
    assert states[0] == states[1] and states[0][-1] == "canceled"


def test_unknown_job(service):
    assert_problem(stream(service, "01m827jqp9xjv3vtpm7sfydmr2"), 404)
    assert_problem(stream(service, "nonsense"), 404)


def test_a_deleted_job_ends_its_streams(make_service, clips):
    service = make_service()
    service.submit(clips["long"], {"size": "160"})
    waiting = service.submit(clips["short"])
    r = stream(service, waiting["id"])
    assert read_events(r, limit=1)[0]["data"]["state"] == "queued"
    assert service.request("DELETE", f"/v1/jobs/{waiting['id']}").status_code == 204
    start = time.monotonic()
    read_events(r)
    assert time.monotonic() - start < 20
