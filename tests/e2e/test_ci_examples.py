"""The README's CI examples, run as they stand: pass, regression caught, noise not flagged, broken zip explained."""

import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import textwrap
import xml.etree.ElementTree as ET
import zipfile

import numpy as np
import pytest

from conftest import BINARY, ROOT
from test_eval_api import image_zip, pairs

README = (ROOT / "README.md").read_text()


def github_steps():
    """{name: (script, env it wants)} of the example's steps that have a name, and of the one that predicts."""
    block = re.search(r"```yaml\n(  saliency:\n.*?)```", README, re.S).group(1)
    steps = {}
    for step in re.split(r"\n\s+- (?=name:|run:|uses:)", block)[1:]:
        name = re.match(r"name: (.*)", step)
        script = re.search(r"run: \|\n((?:\s{10,}.*\n)+)", step) or re.search(r"run: (.*)", step)
        if script:
            steps[name.group(1) if name else "Predict"] = textwrap.dedent(script.group(1))
    return steps


def gitlab_script():
    """The lines of the example's script, folded as YAML folds them."""
    block = re.search(r"GitLab CI:\n\n```yaml\n(.*?)```", README, re.S).group(1)
    script = re.search(r"  script:\n(.*?)\n  \w+:", block, re.S).group(1)
    return [" ".join(item.split()) for item in re.split(r"(?:^|\n)\s+- ", script) if item.strip()]


def maps(shift=0, noise=0):
    """Good predictions: the masks, soft, noisy, and shifted by so many pixels."""
    rng = np.random.RandomState(noise)
    return {name: np.clip(np.roll(m, shift, 1) * 0.8 + 20 + 12 * rng.randn(*m.shape), 0, 255).astype(np.uint8)
            for name, m in pairs()[1].items()}


@pytest.fixture
def checkout(tmp_path):
    """A user's repository: predict.sh copies what a model would make."""
    if not shutil.which("zip"):
        pytest.skip("SKIPPED: no zip program (make test-deps installs it)")
    gt = pairs()[1]
    (tmp_path / "data" / "val").mkdir(parents=True)
    (tmp_path / "data" / "val-masks.zip").write_bytes(image_zip(gt))
    script = tmp_path / "predict.sh"
    script.write_text("#!/bin/sh\nmkdir -p \"$2\" && cp -r made/. \"$2\"\n")
    script.chmod(0o755)
    predict(tmp_path, maps())
    return tmp_path


def predict(checkout, pred):
    shutil.rmtree(checkout / "made", ignore_errors=True)
    zipfile.ZipFile(io.BytesIO(image_zip(pred))).extractall(checkout / "made")


def run(checkout, service, script):
    """As a runner does: bash, -e and pipefail, a fresh shell."""
    env = {**os.environ, "SALIENT_URL": service.url, "GITHUB_STEP_SUMMARY": str(checkout / "summary.md")}
    return subprocess.run(["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script], cwd=checkout, env=env,
                          capture_output=True, text=True, timeout=120)


def github(checkout, service, *names):
    for old in ("maps", "maps.zip", "summary.md"):
        path = checkout / old
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for name in ("Predict", *names):
        r = run(checkout, service, github_steps()[name])
        if r.returncode:
            break
    return r


def test_github_actions(service, checkout):
    first = github(checkout, service, "Evaluate")
    assert first.returncode == 22 and "no_such_baseline" in first.stdout  # said in the README: put one first
    made = github(checkout, service, "New baseline")
    assert made.returncode == 0, made.stderr
    passed = github(checkout, service, "Evaluate")
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert (checkout / "summary.md").read_text().startswith("### Saliency evaluation: pass")
    predict(checkout, maps(noise=3))  # the same model, another seed
    noise = github(checkout, service, "Evaluate")
    assert noise.returncode == 0, noise.stdout
    predict(checkout, maps(shift=9))
    regression = github(checkout, service, "Evaluate", "New baseline")
    assert regression.returncode == 22, regression.stdout
    summary = (checkout / "summary.md").read_text()
    assert "**FAIL**" in summary and "max drop `max_f`" in summary
    assert len(service.get("/v1/baselines/main/history").json()["items"]) == 1  # a failed run makes no baseline
    pred = maps()
    del pred["cows/00002.png"]
    predict(checkout, pred)
    missing = github(checkout, service, "Evaluate")
    assert missing.returncode == 22 and "cows/00002" in missing.stdout
    broken = run(checkout, service, "head -c 2000 maps.zip > cut.zip && mv cut.zip maps.zip && " + github_steps()["Evaluate"])
    assert broken.returncode == 22
    problem = json.loads(broken.stdout)
    assert problem["code"] == "bad_data" and problem["detail"].startswith("pred: "), problem


def test_gitlab_ci(service, checkout):
    predict_line, evaluate_line = gitlab_script()
    assert github(checkout, service, "New baseline").returncode == 0
    for shift, status, failures in ((0, 0, "0"), (9, 22, "2")):
        predict(checkout, maps(shift=shift))
        shutil.rmtree(checkout / "maps")
        (checkout / "maps.zip").unlink()
        assert run(checkout, service, predict_line).returncode == 0
        r = run(checkout, service, evaluate_line)
        assert r.returncode == status, r.stdout + r.stderr
        suites = ET.parse(checkout / "junit.xml").getroot()
        assert (suites.get("tests"), suites.get("failures")) == ("3", failures)


def test_the_command_in_a_pipeline(checkout):
    """Exit status 0, 3 and 1, as the README says."""
    block = re.search(r"```sh\n(build/salient eval --pred maps.zip.*?)```", README, re.S).group(1)
    command = block.split("#")[0].replace("build/salient", str(BINARY))
    command = command.replace("masks.zip", "data/val-masks.zip")

    def evaluate(pred, line=command):
        (checkout / "maps.zip").write_bytes(image_zip(pred))
        return subprocess.run(["bash", "-c", line], cwd=checkout, capture_output=True, text=True, timeout=120)

    assert evaluate(maps()).returncode == 1  # main.json is not there
    base = evaluate(maps(), re.sub(r"--baseline.*", "> main.json", command.replace("\\\n", " ").replace(
        "--protocol davis --min s_measure=0.85,max_f=0.8,mae=0.05", "--protocol davis")))
    assert base.returncode == 0, base.stderr
    loose = command.replace("s_measure=0.85,max_f=0.8,mae=0.05", "s_measure=0.5")
    good = evaluate(maps(), loose)
    assert good.returncode == 0 and good.stdout.startswith("### Saliency evaluation: pass"), good.stdout + good.stderr
    bad = evaluate(maps(shift=9), loose)
    assert bad.returncode == 3 and "**FAIL**" in bad.stdout
    assert pathlib.Path(checkout / "main.json").exists()
