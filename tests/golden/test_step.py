"""One training step of the published recipe against an independent PyTorch implementation (make_step.py): loss, every gradient, and
the weights after Adam's first step."""
import pathlib

import numpy
import pytest
from PIL import Image

import checkpoint
import step_cases

REFERENCE = pathlib.Path(__file__).with_name("step.npz")
TOLERANCE = 1e-3


@pytest.mark.parametrize("case", step_cases.CASES, ids=lambda c: c.name)
def test_loss_and_gradients(golden, imported, salient, tmp_path, case):
    x, target, _ = step_cases.load(golden, case)
    numpy.save(tmp_path / "x.npy", x)
    numpy.save(tmp_path / "y.npy", target)
    head = [] if case.weights == "fgplg" else ["--head", "video" if case.video else "image"]
    salient("model", "step", imported(case.weights), "--input", tmp_path / "x.npy", "--target", tmp_path / "y.npy",
            "-o", tmp_path / "g.safetensors", "--after", tmp_path / "w.safetensors", "--lr", "1e-4", *head)
    got, after = checkpoint.load_safetensors(tmp_path / "g.safetensors"), checkpoint.load_safetensors(tmp_path / "w.safetensors")
    ref = {n.split("/", 1)[1]: v for n, v in numpy.load(REFERENCE).items() if n.startswith(case.name + "/")}
    assert abs(got.pop("loss")[0] - ref.pop("loss")) < TOLERANCE * 1e-1
    assert set(got) == set(ref)
    before = checkpoint.load_safetensors(imported(case.weights))
    for name, want in ref.items():
        norm, largest, entries = want[0], want[1], want[2:]
        have = step_cases.digest(got[name])
        assert abs(have[0] - norm) <= TOLERANCE * norm + 1e-9, name
        assert numpy.abs(have[2:] - entries).max() <= TOLERANCE * largest + 1e-9, name
        # Adam's first step moves every weight by lr * g / (|g| + 1e-8)
        moved = before[name] - 1e-4 * got[name] / (numpy.abs(got[name]) + 1e-8)
        assert numpy.abs(after[name] - moved).max() < 1e-6, name


def test_the_trainer_itself(golden, imported, salient, tmp_path):
    """The same step from files, as training takes it; looser, because the frames pass through float32."""
    case = step_cases.CASES[0]
    frames, target, _ = step_cases.load(golden, case)
    for folder, arrays in (("JPEGImages", frames), ("Annotations", target * 255)):
        (tmp_path / folder / "clip").mkdir(parents=True)
        for t, array in enumerate(arrays):
            Image.fromarray(array).save(tmp_path / folder / "clip" / f"{t:05d}.png")
    salient("train", "detector", "--stage", "paper", "--size", "64", "--val-fraction", "0", "--data", tmp_path, "--init",
            imported(case.weights), "-o", tmp_path / "run", "--dump-grads", tmp_path / "g.safetensors")
    got = checkpoint.load_safetensors(tmp_path / "g.safetensors")
    ref = {n.split("/", 1)[1]: v for n, v in numpy.load(REFERENCE).items() if n.startswith(case.name + "/")}
    assert abs(got.pop("loss")[0] - ref.pop("loss")) < 1e-5
    assert set(got) == set(ref)
    for name, want in ref.items():
        assert abs(step_cases.digest(got[name])[0] - want[0]) <= 5e-3 * want[0], name


def test_refusals(golden, imported, salient, tmp_path):
    case = step_cases.CASES[0]
    x, target, _ = step_cases.load(golden, case)
    numpy.save(tmp_path / "x.npy", x)

    def message(y, *more):
        numpy.save(tmp_path / "y.npy", y)
        return salient("model", "step", imported("rcrnet"), "--input", tmp_path / "x.npy", "--target", tmp_path / "y.npy",
                       "-o", tmp_path / "g.safetensors", *more, ok=False)

    assert "one mask per input frame" in message(target[:3])
    assert "outside 0 to 1" in message(numpy.full(target.shape, 2, numpy.float32))
    assert "outside 0 to 1" in message(numpy.full(target.shape, numpy.nan, numpy.float32))
    assert "loss" in message(target, "--loss", "hinge")
    assert "--head" in message(target, "--head", "both")
    assert not (tmp_path / "g.safetensors").exists()
