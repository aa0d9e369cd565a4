"""The networks against the published implementations, through `salient model`: every file format, both heads, refusals by name."""
import hashlib

import numpy
import pytest

import checkpoint

TOLERANCE = 1e-3


def close(got, want):
    assert got.dtype == numpy.float32 and got.shape == want.shape
    worst = numpy.abs(got - want).max()
    assert worst < TOLERANCE, worst


@pytest.mark.parametrize("case", ["t4_64x64", "t4_96x128"])
def test_rcrnet(golden, imported, forward, case):
    ref = numpy.load(golden / "rcrnet" / f"{case}.npz")
    close(forward(imported("rcrnet"), ref["clip_u8"]), ref["logits"])
    close(forward(imported("rcrnet"), ref["clip_u8"], "--head", "image"), ref["image_logits"])


def test_float_input_is_taken_as_it_is(golden, imported, forward):
    ref = numpy.load(golden / "rcrnet" / "t4_64x64.npz")
    x = ref["clip_u8"].transpose(0, 3, 1, 2).astype(numpy.float32) / 255
    mean, std = (numpy.array(v, numpy.float32).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    close(forward(imported("rcrnet"), (x - mean) / std), ref["logits"])


def test_fgplg(golden, imported, forward):
    ref = numpy.load(golden / "fgplg" / "fg_64x64.npz")
    close(forward(imported("fgplg"), ref["input7"]), ref["logits"])


def test_every_format_imports_alike(imported):
    """One set of weights in three formats gives one file, byte for byte."""
    sums = {f: hashlib.sha256(imported("rcrnet", f).read_bytes()).hexdigest() for f in ("safetensors", "pth", "pth-legacy")}
    assert len(set(sums.values())) == 1, sums


def test_wrapped_parallel_cuda_checkpoint(tmp_path, tensors, imported, salient):
    source = checkpoint.save(tensors("fgplg"), tmp_path / "in", "pth-legacy", wrap="state_dict", prefix="module.", location="cuda:1")
    salient("model", "import", source, "--arch", "fgplg-r50", "-o", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == imported("fgplg").read_bytes()


def refused(salient, tmp_path, tensors, *words, arch="fgplg-r50"):
    source = checkpoint.save(tensors, tmp_path / "bad", "safetensors")
    message = salient("model", "import", source, "--arch", arch, "-o", tmp_path / "out", ok=False)
    for word in words:
        assert word in message, message
    assert not (tmp_path / "out").exists()


def test_refusals_name_the_tensor(tmp_path, tensors, salient):
    good = tensors("fgplg")
    name = "backbone.decoder.conv2.bias"
    refused(salient, tmp_path, {k: v for k, v in good.items() if k != name}, name, "missing")
    refused(salient, tmp_path, {**good, "backbone.surprise": numpy.zeros(3, numpy.float32)}, "backbone.surprise")
    refused(salient, tmp_path, {**good, name: numpy.zeros(2, numpy.float32)}, name, "(2)", "(1)")
    refused(salient, tmp_path, {**good, name: numpy.zeros(1, numpy.int64)}, name)
    refused(salient, tmp_path, good, "backbone.resnet.conv1.weight", "(64,7,7,7)", arch="rcrnet-r50")
    refused(salient, tmp_path, good, "backbone.effnet", "missing", arch="fgplg-lite")
    refused(salient, tmp_path, good, "no architecture", "rcrnet-lite", arch="rcrnet-r101")


def test_published_extras_are_skipped(tmp_path, tensors, imported, salient):
    extra = {**tensors("fgplg"), "flownet.conv1.weight": numpy.zeros((2, 2), numpy.float32)}
    source = checkpoint.save(extra, tmp_path / "in", "safetensors")
    salient("model", "import", source, "--arch", "fgplg-r50", "-o", tmp_path / "out.safetensors")
    assert (tmp_path / "out.safetensors").read_bytes() == imported("fgplg").read_bytes()


def test_architecture_of_a_bare_file(tmp_path, tensors, golden, forward, salient):
    source = checkpoint.save(tensors("fgplg"), tmp_path / "in", "pth")
    ref = numpy.load(golden / "fgplg" / "fg_64x64.npz")
    close(forward(source, ref["input7"], "--arch", "fgplg-r50"), ref["logits"])
    assert "architecture" in salient("model", "info", source, ok=False)


def test_bad_arrays(tmp_path, imported, salient):
    model, bad = imported("fgplg"), tmp_path / "bad.npy"

    def message(array=None, raw=None, *args):
        if raw is None:
            numpy.save(bad, array)
        else:
            bad.write_bytes(raw)
        return salient("model", "run", model, "--input", bad, "--output", tmp_path / "out.npy", *args, ok=False)

    good = numpy.zeros((1, 7, 64, 64), numpy.float32)
    numpy.save(bad, good)
    whole = bad.read_bytes()
    assert "float32 (N,7,H,W)" in message(good[:, :3])
    assert "float32 (N,7,H,W)" in message(good[0])
    assert "32" in message(numpy.zeros((1, 7, 16, 64), numpy.float32))
    assert "frames" in message(numpy.zeros((0, 7, 64, 64), numpy.float32))
    assert "temporal" in message(good, None, "--head", "video")
    assert "<f8" in message(good.astype(numpy.float64))
    assert "Fortran" in message(numpy.asfortranarray(good))
    for raw in (b"", whole[:9], whole[:60], whole[:-1], whole + b"\0", b"\x93NUMPY\x01\0\xff\xff" + whole[10:],
                whole.replace(b"(1, 7, 64, 64)", b"(1, 7, 64,-64)"), whole.replace(b"'shape'", b"'shopt'"),
                whole.replace(b"(1, 7, 64, 64)", b"(9999999999999999999, )")):
        message(raw=raw)
