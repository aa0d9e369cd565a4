"""The page Eval in headless Chromium: two zips, the report with its curves, a baseline and its trend, a failing gate."""

import io
import zipfile

import numpy as np
from browser import browser, chromium, emulate, find, press, text, until  # noqa: F401 (fixtures)
from PIL import Image


def archive(path, shift=0):
    y, x = np.mgrid[0:48, 0:64]
    with zipfile.ZipFile(path, "w") as z:
        for n in range(6):
            data = io.BytesIO()
            Image.fromarray((((x - 20 - 2 * n - shift) ** 2 + (y - 24) ** 2 < 150) * 255).astype(np.uint8)).save(data, "PNG")
            z.writestr(f"disc/{n:05d}.png", data.getvalue())
    return path


def test_evaluation(browser, service, tmp_path):
    pred, gt = archive(tmp_path / "pred.zip", shift=2), archive(tmp_path / "gt.zip")
    browser.get(f"{service.url}/#/eval")
    until(browser, lambda: find(browser, "#pred"), "the form")
    press(browser, "Evaluate")
    until(browser, lambda: "both zips" in text(browser, "main"), "the reason", 10)
    find(browser, "#pred")[0].send_keys(str(pred))
    find(browser, "#gt")[0].send_keys(str(gt))
    find(browser, "#min")[0].send_keys("j_mean:0.99")
    press(browser, "Evaluate")
    until(browser, lambda: text(browser, ".report .state") == "fail", "the report", 60)
    assert "J mean" in text(browser, ".report") and len(find(browser, ".report svg.chart")) == 2
    for _ in range(2):
        press(browser, "Keep as baseline")
        until(browser, lambda: find(browser, ".toast.good"), "kept", 20)
        browser.execute_script("document.querySelectorAll('.toast').forEach(t => t.remove())")
    history = service.get("/v1/baselines/main/history").json()["items"]
    assert len(history) == 2
    until(browser, lambda: len(find(browser, "svg.chart circle")) == 2, "the trend", 20)
    emulate(browser, 390, 844, mobile=True)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
