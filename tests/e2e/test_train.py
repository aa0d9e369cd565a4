"""salient train: a tiny run, a killed one that is resumed, and what it refuses."""
import json
import os
import signal
import struct
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

SALIENT = os.environ.get("SALIENT", "build/salient")


def write_photos(folder, n, size=(72, 60)):
    rng = np.random.default_rng(7)
    for sub in ("images", "masks"):
        (folder / sub).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        rgb = rng.integers(0, 90, (size[1], size[0], 3), dtype=np.uint8)
        mask = np.zeros((size[1], size[0]), np.uint8)
        x, y = rng.integers(8, 24, 2)
        mask[y : y + 26, x : x + 30] = 255
        rgb[mask > 0] += np.array([150, 90, 40], np.uint8)
        Image.fromarray(rgb).save(folder / "images" / f"p{i}.png")
        Image.fromarray(mask).save(folder / "masks" / f"p{i}.png")
    return folder


def command(data, out, *more, target="detector"):
    return [SALIENT, "train", target, "--data", str(data), "-o", str(out), "--size", "64", "--batch", "2",
            "--threads", "1", "--loaders", "2", "--val-fraction", "0.3", *more]


def train(*args, **kw):
    return subprocess.run(command(*args, **kw), capture_output=True, text=True, timeout=300)


def tensors(path):
    blob = path.read_bytes()
    head = struct.unpack("<Q", blob[:8])[0]
    index = json.loads(blob[8 : 8 + head])
    index.pop("__metadata__", None)
    return index, blob[8 + head :]


def log(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"), 10)


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "out"
    r = train(photos, out, "--epochs", "3")
    assert r.returncode == 0, r.stderr
    return out


def test_leaves_a_model_and_a_log(finished):
    lines = log(finished)
    assert [l["epoch"] for l in lines] == [1, 2, 3]
    assert all(l["loss"] > 0 and 0 <= l["val_s_measure"] <= 1 for l in lines)
    model = json.loads((finished / "model.json").read_text())
    assert model["arch"] == "rcrnet-lite" and model["input_px"] == 64
    assert (finished / "model.safetensors").stat().st_size < 12_000_000
    assert list(finished.glob("events.out.tfevents.*"))
    assert subprocess.run([SALIENT, "model", "info", str(finished)], capture_output=True).returncode == 0


def kill_after(seconds, *args):
    """Starts training, kills it hard after so long; False when it had finished by itself."""
    p = subprocess.Popen(command(*args), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        p.wait(seconds)
        return False
    except subprocess.TimeoutExpired:
        p.send_signal(signal.SIGKILL)
        p.wait()
        return True


def assert_same_run(out, finished):
    assert tensors(out / "checkpoint.safetensors") == tensors(finished / "checkpoint.safetensors")
    assert tensors(out / "model.safetensors") == tensors(finished / "model.safetensors")
    assert [l["epoch"] for l in log(out)] == [1, 2, 3]
    assert [l["loss"] for l in log(out)] == [l["loss"] for l in log(finished)]
    assert sorted(f.name.split(".")[0] for f in out.iterdir() if "tfevents" not in f.name) == ["checkpoint", "log", "model", "model"]


def test_killed_and_resumed_ends_the_same(photos, finished, tmp_path):
    out = tmp_path / "out"
    p = subprocess.Popen(command(photos, out, "--epochs", "3"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (out / "checkpoint.safetensors").exists():
        assert p.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.3)
    p.send_signal(signal.SIGKILL)
    p.wait()
    (out / "checkpoint.safetensors.tmp.7Ee1hT").write_bytes(b"half")  # as a kill in the middle of a write leaves it
    r = train(photos, out, "--epochs", "3", "--resume")
    assert r.returncode == 0, r.stderr
    assert_same_run(out, finished)


@pytest.mark.long
def test_killed_anywhere_ends_the_same(photos, finished, tmp_path):
    """A checkpoint after every step, so that many of the kills fall into one being written."""
    out, random, kills = tmp_path / "out", np.random.default_rng(int(time.time())), 0
    args = (photos, out, "--epochs", "3", "--resume", "--save-minutes", "0.00001")
    while kills < 40 and kill_after(0.5 + random.exponential(1.2), *args):
        kills += 1
    r = train(*args)
    assert r.returncode == 0, (kills, r.stderr)
    assert kills > 2
    assert_same_run(out, finished)


def test_full_disk_is_told_before_training(photos, tmp_path):
    run = " ".join(command(photos, "/mnt/out", "--epochs", "1"))
    script = f"mount -t tmpfs -o size=8m none /mnt && {run}"
    r = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    if "unshare" in r.stderr or "mount" in r.stderr:
        pytest.skip(f"no private mounts here: {r.stderr.strip()}")
    assert r.returncode == 1 and "MB free" in r.stderr, r.stderr


def test_file_size_limit_keeps_the_last_checkpoint(photos, finished, tmp_path):
    out = tmp_path / "out"
    r = train(photos, out, "--epochs", "3", "--steps", "3")
    assert r.returncode == 0, r.stderr
    before = tensors(out / "checkpoint.safetensors")
    script = "ulimit -f 1000; trap '' XFSZ; exec " + " ".join(command(photos, out, "--epochs", "3", "--resume"))
    r = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=300)
    assert r.returncode == 1 and r.stderr.strip().splitlines()[-1].startswith("salient train: "), r.stderr
    assert tensors(out / "checkpoint.safetensors") == before
    r = train(photos, out, "--epochs", "3", "--resume")
    assert r.returncode == 0, r.stderr
    assert tensors(out / "checkpoint.safetensors") == tensors(finished / "checkpoint.safetensors")


def test_trains_from_propagated_labels(tmp_path):
    """Masks of three frames -> salient propagate -> salient train on its output folder."""
    clip = write_photos(tmp_path / "clip", 9)
    keys = tmp_path / "keys"
    keys.mkdir()
    for i in (0, 4, 8):
        (clip / "masks" / f"p{i}.png").rename(keys / f"p{i}.png")
    r = subprocess.run([SALIENT, "propagate", "--frames", str(clip / "images"), "--keyframes", str(keys), "-o",
                        str(tmp_path / "labels"), "--model", "none", "--threads", "1"], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    r = train(tmp_path / "labels", tmp_path / "out", "--epochs", "1", "--steps", "2")
    assert r.returncode == 0, r.stderr
    about = json.loads((tmp_path / "out" / "model.json").read_text())["training"]
    assert about["pictures"] + about["held_out"] == 9


def test_does_not_resume_another_run(photos, finished):
    r = train(photos, finished, "--epochs", "3", "--resume", "--lr", "0.1")
    assert r.returncode == 1 and "other data or options" in r.stderr


def test_stops_when_nothing_gets_better(photos, tmp_path):
    out = tmp_path / "out"
    r = train(photos, out, "--stage", "paper", "--arch", "rcrnet-lite", "--clip", "1", "--lr", "1e-30", "--epochs", "6",
              "--patience", "1")
    assert r.returncode == 0, r.stderr
    lines = log(out)
    assert [l["epoch"] for l in lines] == [1, 2] and lines[0]["val_s_measure"] == lines[1]["val_s_measure"]


def test_clips_and_generator_train(photos, tmp_path):
    r = train(photos, tmp_path / "v", "--stage", "video", "--clip", "3", "--steps", "1", "--epochs", "1")
    assert r.returncode == 0, r.stderr
    r = train(photos, tmp_path / "g", "--steps", "1", "--epochs", "1", target="fgplg")
    assert r.returncode == 0, r.stderr
    assert json.loads((tmp_path / "g" / "model.json").read_text())["arch"] == "fgplg-lite"


def test_dumps_loss_and_gradients_of_the_first_step(photos, tmp_path):
    dump = tmp_path / "g.safetensors"
    r = train(photos, tmp_path / "o", "--dump-grads", str(dump))
    assert r.returncode == 0, r.stderr
    r = train(photos, tmp_path / "p", "--dump-grads", str(tmp_path / "one"), "--steps", "1")
    assert r.returncode == 0, r.stderr
    assert dump.read_bytes() == (tmp_path / "one").read_bytes()
    index, data = tensors(dump)
    assert "loss" in index and "backbone.decoder.conv2.weight" in index
    a, b = index["backbone.decoder.conv2.weight"]["data_offsets"]
    assert np.abs(np.frombuffer(data[a:b], "<f4")).max() > 0


@pytest.mark.parametrize("damage,words", [("nothing", "no labelled picture"), ("size", "but its mask"),
                                          ("blank", "foreground"), ("loss", "loss"), ("stage", "stage"),
                                          ("lr", "diverged")])
def test_refuses_early(tmp_path, damage, words):
    data, more = write_photos(tmp_path / "d", 4), []
    if damage == "nothing":
        data = tmp_path / "empty"
        data.mkdir()
    if damage == "size":
        Image.new("L", (9, 9)).save(data / "masks" / "p1.png")
    if damage == "blank":
        for m in (data / "masks").iterdir():
            Image.new("L", (72, 60)).save(m)
    if damage in ("loss", "stage"):
        more = [f"--{damage}", "nonsense"]
    if damage == "lr":
        more = ["--lr", "1e18", "--warmup", "0", "--clip-norm", "0", "--epochs", "30"]
    r = train(data, tmp_path / "out", *more)
    assert r.returncode == 1
    assert words in r.stderr or (damage == "lr" and "not finite" in r.stderr)
