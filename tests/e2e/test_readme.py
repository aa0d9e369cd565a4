"""The commands of the README, run as they stand there (against this test's port)."""

import re
import subprocess
import zipfile

from conftest import ROOT


def blocks():
    """Shell blocks of the README that talk to the service and bring all they need; those about a project need its clips and masks
    (test_projects.py, test_retrain.py), those of a build its data (test_ci_examples.py)."""
    found = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.M | re.S)
    return [b for b in found if "curl" in b and not re.search(r"\$(KEY|project|SALIENT_URL)\b", b)]


def test_curl_examples_work_as_written(service, tmp_path):
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    assert len(blocks()) >= 2
    for block in blocks():
        script = block.replace("http://127.0.0.1:8080", service.url)
        assert "8080" not in script
        done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        if "events" in block:
            assert '"state":"succeeded"' in done.stdout
            assert re.search(r"^event: progress$", done.stdout, re.M)
    for name in ("0.png", "map.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG"), name
    frames = zipfile.ZipFile(next(tmp_path.glob("*.zip"))).namelist()
    assert len(frames) > 10 and frames == sorted(frames)
    assert b"ftyp" in next(tmp_path.glob("*.mp4")).read_bytes()[:16]
