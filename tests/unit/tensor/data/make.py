#!/usr/bin/env python3
"""Writes the checkpoints that test_pth.c reads, with PyTorch itself: tiny.pth (zip) and tiny-legacy.pth.

Run by hand when the cases change; needs torch, which the tests do not.
"""
import collections
import os

import torch

here = os.path.dirname(os.path.abspath(__file__))
ramp = torch.arange(6, dtype=torch.float32)
state = collections.OrderedDict(
    [
        ("module.float", (ramp / 4).reshape(2, 3)),
        ("module.half", (ramp / 4).half()),
        ("module.bfloat", (ramp / 4).bfloat16()),
        ("module.double", (ramp / 4).double()),
        ("module.steps", torch.tensor(12345678901)),
        ("module.int", -ramp.int()),
        ("module.short", -ramp.short()),
        ("module.char", -ramp.char()),
        ("module.byte", ramp.byte()),
        ("module.bool", ramp > 2),
        ("module.turned", ramp.reshape(2, 3).t()),
        ("module.middle", ramp[2:4]),
        ("module.empty", torch.zeros(0, 4)),
        ("module.parameter", torch.nn.Parameter(ramp.reshape(1, 1, 2, 3))),
    ]
)
state._metadata = {"": {"version": 1}}
checkpoint = {"epoch": 3, "best": 0.5, "name": "tiny", "state_dict": state, "history": [1, 2.5, None, (True,)]}
torch.save(checkpoint, os.path.join(here, "tiny.pth"))
torch.save(checkpoint, os.path.join(here, "tiny-legacy.pth"), _use_new_zipfile_serialization=False)
