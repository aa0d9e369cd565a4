"""Fixtures of the golden tests: the reference folder, the binary, and checkpoints built once per session."""
import os
import pathlib
import subprocess
import warnings

import numpy
import pytest

import checkpoint

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def golden():
    path = pathlib.Path(os.environ.get("SALIENT_SHARED") or ROOT.parent / "shared") / "golden"
    if not path.is_dir():
        warnings.warn(f"golden tests SKIPPED: no reference values at {path}")
        pytest.skip(f"no reference values at {path}")
    return path


@pytest.fixture(scope="session")
def salient():
    binary = os.environ.get("SALIENT", str(ROOT / "build" / "salient"))

    def run(*args, ok=True):
        done = subprocess.run([binary, *map(str, args)], capture_output=True, text=True, timeout=300)
        if ok:
            assert done.returncode == 0, done.stderr
        else:
            assert done.returncode == 1, (done.returncode, done.stderr)
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        return done.stderr

    return run


@pytest.fixture(scope="session")
def tensors(golden):
    """name of the case -> ordered {name: array} of its reference checkpoint."""
    cache = {}

    def get(case):
        if case not in cache:
            cache[case] = checkpoint.reference(golden, case)
        return cache[case]

    return get


@pytest.fixture(scope="session")
def imported(tmp_path_factory, tensors, salient):
    """(case, format) -> what `salient model import` makes of the checkpoint."""
    cache = {}

    def get(case, fmt="safetensors"):
        if (case, fmt) not in cache:
            folder = tmp_path_factory.mktemp(f"{case}-{fmt}")
            source = checkpoint.save(tensors(case), folder / "in", fmt)
            out = folder / "out.safetensors"
            arch = {"rcrnet": "rcrnet-r50", "fgplg": "fgplg-r50"}[case]
            salient("model", "import", source, "--arch", arch, "-o", out)
            source.unlink()
            cache[case, fmt] = out
        return cache[case, fmt]

    return get


@pytest.fixture
def forward(salient, tmp_path):
    def run(model, array, *args):
        numpy.save(tmp_path / "in.npy", array)
        salient("model", "run", model, "--input", tmp_path / "in.npy", "--output", tmp_path / "out.npy", *args)
        return numpy.load(tmp_path / "out.npy")

    return run
