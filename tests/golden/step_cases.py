"""The training steps that are compared: inputs from the reference folder, labels made here, and how a gradient is written down."""
import collections

import numpy

Case = collections.namedtuple("Case", "name weights file video")
CASES = [Case("clip", "rcrnet", "rcrnet/t4_64x64.npz", True), Case("stills", "rcrnet", "rcrnet/t4_96x128.npz", False),
         Case("guided", "fgplg", "fgplg/fg_64x64.npz", False)]
MEAN, STD = (numpy.array(v).reshape(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))


def load(golden, case):
    """Input (bytes (T,H,W,3) or floats (N,C,H,W)), masks (T,H,W) of 0 and 1, reference logits."""
    ref = numpy.load(golden / case.file)
    x = ref["clip_u8"] if "clip_u8" in ref else ref["input7"]
    logits = ref["logits"] if case.video or case.weights == "fgplg" else ref["image_logits"]
    n, _, h, w = logits.shape
    t, v, u = numpy.mgrid[:n, :h, :w]
    inside = ((u / w - 0.4 - 0.04 * t) / 0.25) ** 2 + ((v / h - 0.55) / 0.3) ** 2 < 1
    return x, inside.astype(numpy.uint8), logits


def normalised(x):
    return (x.transpose(0, 3, 1, 2) / 255 - MEAN) / STD if x.dtype == numpy.uint8 else x


def digest(g):
    """Norm, largest magnitude, and six entries spread over the tensor."""
    flat = numpy.asarray(g, numpy.float64).ravel()
    at = numpy.linspace(0, flat.size - 1, 6).round().astype(int)
    return numpy.concatenate([[numpy.sqrt((flat ** 2).sum()), numpy.abs(flat).max()], flat[at]]).astype(numpy.float32)
