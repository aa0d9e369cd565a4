"""Checkpoints for tests: the reference weights, and writers of the three file formats that need nothing but numpy.

The .pth writers produce the pickles that torch.save does: an OrderedDict of calls to torch._utils._rebuild_tensor_v2 over persistent
ids. Modules of the right names stand in for torch while pickling.
"""
import collections
import contextlib
import importlib.util
import io
import json
import pickle
import struct
import sys
import types
import zipfile

import numpy


def reference(golden, case):
    spec = importlib.util.spec_from_file_location("make_checkpoint", golden / "make_checkpoint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build(str(golden / case))


def save(tensors, path, fmt, **how):
    {"safetensors": save_safetensors, "pth": save_zip, "pth-legacy": save_legacy}[fmt](tensors, path, **how)
    return path


def save_safetensors(tensors, path, meta=None):
    kinds = {"float32": "F32", "float16": "F16", "int64": "I64"}
    head, at = ({"__metadata__": meta} if meta else {}), 0
    for name, a in tensors.items():
        head[name] = {"dtype": kinds[str(a.dtype)], "shape": list(a.shape), "data_offsets": [at, at + a.nbytes]}
        at += a.nbytes
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for a in tensors.values():
            f.write(numpy.ascontiguousarray(a).tobytes())


def load_safetensors(path):
    blob = path.read_bytes()
    at = 8 + struct.unpack("<Q", blob[:8])[0]
    head = json.loads(blob[8:at])
    head.pop("__metadata__", None)
    return {n: numpy.frombuffer(blob[at + t["data_offsets"][0]:at + t["data_offsets"][1]], "<f4").reshape(t["shape"])
            for n, t in head.items() if t["dtype"] == "F32"}


# ---- pickles ----


@contextlib.contextmanager
def torch_names():
    """Modules `torch` and `torch._utils` holding just what the pickles refer to by name."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    for name in ("FloatStorage", "HalfStorage", "LongStorage"):
        setattr(torch, name, type(name, (), {"__module__": "torch"}))

    def _rebuild_tensor_v2(*args):
        raise AssertionError("only named, never called")

    _rebuild_tensor_v2.__module__ = "torch._utils"
    _rebuild_tensor_v2.__qualname__ = "_rebuild_tensor_v2"
    utils._rebuild_tensor_v2 = _rebuild_tensor_v2
    torch._utils = utils
    before = {n: sys.modules.get(n) for n in ("torch", "torch._utils")}
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class Tensor:
    def __init__(self, array, key, torch):
        self.array, self.key, self.torch = array, key, torch

    def __reduce__(self):
        shape = self.array.shape
        strides = [int(numpy.prod(shape[i + 1:])) for i in range(len(shape))]
        return self.torch._utils._rebuild_tensor_v2, (
            Storage(self), 0, tuple(shape), tuple(strides), False, collections.OrderedDict())


class Storage:
    def __init__(self, tensor):
        self.tensor = tensor


class Pickler(pickle.Pickler):
    legacy, location = False, "cpu"

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        t = value.tensor
        kind = {"float32": "FloatStorage", "float16": "HalfStorage", "int64": "LongStorage"}[str(t.array.dtype)]
        head = ("storage", getattr(t.torch, kind), t.key, self.location, max(int(t.array.size), 1))
        return (*head, None) if self.legacy else head


def pickled(tensors, torch, legacy, wrap, prefix, location):
    entries = collections.OrderedDict(
        (prefix + name, Tensor(a, str(i), torch)) for i, (name, a) in enumerate(tensors.items()))
    out = io.BytesIO()
    pickler = Pickler(out, protocol=2)
    pickler.legacy, pickler.location = legacy, location
    pickler.dump({wrap: entries, "epoch": 3} if wrap else entries)
    return out.getvalue()


def save_zip(tensors, path, wrap=None, prefix="", location="cpu"):
    with torch_names() as torch, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as z:
        z.writestr("archive/data.pkl", pickled(tensors, torch, False, wrap, prefix, location))
        z.writestr("archive/version", b"3\n")
        for i, a in enumerate(tensors.values()):
            info = zipfile.ZipInfo(f"archive/data/{i}")
            # The data starts on a multiple of 64 bytes: header of 30, the name, an extra field as padding.
            at = z.fp.tell() + 30 + len(info.filename) + 4
            info.extra = b"FB" + struct.pack("<H", -at % 64) + b"Z" * (-at % 64)
            z.writestr(info, numpy.ascontiguousarray(a).tobytes())


def save_legacy(tensors, path, wrap=None, prefix="", location="cpu"):
    with torch_names() as torch, open(path, "wb") as f:
        for value in (0x1950A86A20F9469CFC6C, 1001,
                      {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}):
            pickle.dump(value, f, protocol=2)
        f.write(pickled(tensors, torch, True, wrap, prefix, location))
        pickle.dump([str(i) for i in range(len(tensors))], f, protocol=2)
        for a in tensors.values():
            f.write(struct.pack("<q", max(int(a.size), 1)) + numpy.ascontiguousarray(a).tobytes())
