"""The page Models in headless Chromium: promote, roll back, example frames; and a retraining with its live curves and its verdict."""

import pytest
from browser import SHOTS, browser, chromium, find, press, text, until  # noqa: F401 (fixtures)
from test_retrain import backward_weights, discs, make_project  # noqa: F401 (fixture)

MODEL = "rcrnet-lite"


def champion(service):
    return service.get(f"/v1/models/{MODEL}").json()["aliases"]["champion"]["version"]


def test_promote_and_roll_back(browser, service, clips):
    before = champion(service)
    r = service.post(f"/v1/models/{MODEL}/versions", params={"arch": MODEL, "version": "backward"}, data=backward_weights(),
                     headers={"Content-Type": "application/octet-stream"})
    assert r.status_code == 201, r.text
    with open(clips["short"], "rb") as f:
        assert service.post("/v1/clips", files={"clip": f}).status_code == 201
    browser.get(f"{service.url}/#/models")
    until(browser, lambda: MODEL in text(browser, "table"), "the models", 30)
    [link] = [a for a in find(browser, "td a") if a.text == MODEL]
    link.click()
    press(browser, "Promote version backward")
    until(browser, lambda: champion(service) == "backward", "the promotion", 30)
    press(browser, "Roll back")
    until(browser, lambda: champion(service) == before, "the old champion", 30)
    until(browser, lambda: "rolled back on the Models page" in text(browser, "[aria-label=History] tbody"), "the history", 30)
    press(browser, "Show example frames")
    until(browser, lambda: len(find(browser, ".example canvas")) >= 2, "a frame with its map", 60)


@pytest.mark.long
def test_retrain(browser, service, discs):
    project = make_project(service, discs)
    browser.get(f"{service.url}/#/projects/{project}")
    until(browser, lambda: find(browser, "#retrain-minutes"), "the project", 30)
    find(browser, "#retrain-minutes")[0].clear()
    find(browser, "#retrain-minutes")[0].send_keys("0.05")
    press(browser, "Retrain")
    until(browser, lambda: find(browser, "svg.chart"), "a curve")
    until(browser, lambda: "Compare on the Models page" in text(browser, "section[aria-label=Retrain]"), "the verdict")
    browser.save_screenshot(str(SHOTS / "retrain.png"))
    [job] = [j for j in service.get("/v1/jobs").json()["items"] if j["kind"] == "train"]
    made = job["outputs"]["challenger"]["version"]
    assert (champion(service) == made) == job["outputs"]["promoted"]
    browser.get(f"{service.url}/#/models/{MODEL}")
    press(browser, f"Curves of version {made}")
    until(browser, lambda: find(browser, "svg.chart"), "the curves of the training", 30)
    assert "Difference" in text(browser, "[aria-label='Champion against challenger'] thead")
