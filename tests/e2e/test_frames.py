"""GET /v1/clips/{id}/frames/{n}: the very picture n, whatever was asked before, by one or by many at once, also after a decoder died."""

import io
import os
import random
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import assert_problem, make_video, wait_for
from PIL import Image

SIZE, FRAMES = (160, 64), 40


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("frames") / "disc.mp4", FRAMES, SIZE)


def add(service, path):
    with open(path, "rb") as f:
        r = service.post("/v1/clips", files={"clip": f})
    assert r.status_code in (200, 201), r.text
    return r.json()["id"]


def disc(service, clip, n):
    """Where the disc of make_video stands in picture n: it moves three pixels a frame."""
    r = service.get(f"/v1/clips/{clip}/frames/{n}")
    assert r.status_code == 200, r.text
    picture = np.asarray(Image.open(io.BytesIO(r.content)).convert("RGB")).astype(int)
    return np.argwhere((picture[..., 0] > 190) & (picture[..., 2] < 120))[:, 1].mean()


def test_any_order(service, video):
    clip = add(service, video)
    orders = [range(FRAMES), range(FRAMES - 1, -1, -1), random.Random(1).sample(range(FRAMES), FRAMES)]
    seen = [{n: disc(service, clip, n) for n in order} for order in orders]
    inside = range(3, FRAMES)  # all of the disc is in the picture
    assert all(abs(seen[0][n] - (10 + 3 * n)) < 1.5 for n in inside)
    assert seen[1] == pytest.approx(seen[0], abs=0.01) and seen[2] == pytest.approx(seen[0], abs=0.01)
    assert_problem(service.get(f"/v1/clips/{clip}/frames/{FRAMES}"), 404)
    assert disc(service, clip, 5) == pytest.approx(seen[0][5], abs=0.01)


def test_many_at_once(service, video, tmp_path):
    made = [add(service, make_video(tmp_path / f"{k}.mp4", FRAMES + k, SIZE)) for k in range(1, 7)]
    wanted = [(clip, n) for n in range(3, 30, 3) for clip in made]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda w: disc(service, *w), wanted))
    assert all(abs(x - (10 + 3 * n)) < 1.5 for (_, n), x in zip(wanted, found))


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(c) for c in f.read().split()]


@pytest.mark.long
def test_open_decoders_die_and_end(make_service, video):
    service = make_service()
    clip = add(service, video)
    [forker] = service.pids("decoder")
    waiting = len(children(forker))  # forked ahead
    assert abs(disc(service, clip, 10) - 40) < 1.5
    wait_for("an open decoder", lambda: len(children(forker)) > waiting, 10)
    for pid in children(forker):  # those that wait too: one answer is lost with them
        os.kill(pid, signal.SIGKILL)
    wait_for("answers again", lambda: service.get(f"/v1/clips/{clip}/frames/20").status_code == 200, 20)
    assert abs(disc(service, clip, 20) - 70) < 1.5
    wait_for("the idle decoder to end", lambda: len(children(forker)) == waiting, 40)
