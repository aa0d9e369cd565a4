"""The annotator's round in headless Chromium: drop a clip, paint, propagate, review, correct, export; nothing painted is ever lost."""

import io
import re
import zipfile

import numpy as np
import pytest
from browser import SHOTS, browser, chromium, emulate, find, offline, paint, press, save_state, text, touch, until  # noqa: F401
from conftest import make_video
from PIL import Image
from selenium.webdriver.common.keys import Keys

SIZE, FRAMES = (160, 96), 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_video(tmp_path_factory.mktemp("editor") / "disc.mp4", FRAMES, SIZE)


def start(browser, service, clip):
    """From the start page to painting, as a newcomer would go. Returns the API path of the clip in its new project."""
    browser.get(f"{service.url}/")
    until(browser, lambda: find(browser, "#annotate-file"), "the start page")
    find(browser, "#annotate-file")[0].send_keys(str(clip))
    until(browser, lambda: find(browser, "#canvas[aria-busy=false]"), "the editor", 60)
    assert "Paint" in text(browser, "#guide")
    return "/v1" + re.search(r"#(/projects/\w+/clips/\w+)", browser.current_url).group(1)


def saved(browser):
    until(browser, lambda: save_state(browser) == "saved", "everything saved", 60)


def go(browser, frame):
    body = find(browser, "body")[0]
    body.send_keys(Keys.HOME, Keys.ARROW_RIGHT * frame)
    until(browser, lambda: text(browser, "#frame").startswith(f"frame {frame} ") and find(browser, "#canvas[aria-busy=false]"), f"frame {frame}", 60)


def mask(service, path):
    r = service.get(path)
    assert r.status_code == 200, r.text
    image = Image.open(io.BytesIO(r.content))
    assert image.size == SIZE and image.mode == "P"
    return np.array(image)


def no_complaints(browser, allowed=()):
    severe = [line["message"] for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert [m for m in severe if not any(a in m for a in ("/v1/models", *allowed))] == []


def test_paint_undo_reload(browser, service, clip):
    base = start(browser, service, clip)
    paint(browser, SIZE, [(20, 48), (60, 48)])
    saved(browser)
    first = mask(service, f"{base}/keyframes/0")
    assert set(np.unique(first)) == {0, 1} and first[48, 40] == 1 and first[10, 40] == 0
    press(browser, "New object")
    body = find(browser, "body")[0]
    body.send_keys("p")  # a polygon around the lower right, closed by its first corner
    for corner in ((100, 60), (150, 60), (150, 90), (100, 90), (100, 60)):
        paint(browser, SIZE, [corner])
    saved(browser)
    both = mask(service, f"{base}/keyframes/0")
    assert both[75, 125] == 2 and both[48, 40] == 1 and (both == 2).sum() == 50 * 30
    body.send_keys("e")
    paint(browser, SIZE, [(20, 48), (60, 48)])
    saved(browser)
    assert mask(service, f"{base}/keyframes/0")[48, 40] == 0
    body.send_keys(Keys.CONTROL, "z")
    until(browser, lambda: (mask(service, f"{base}/keyframes/0") == both).all(), "the undo, saved", 20)
    saved(browser)
    browser.refresh()
    until(browser, lambda: find(browser, "#canvas[aria-busy=false]"), "the editor again", 60)
    assert find(browser, "#object-2") and text(browser, "#label") == "Keyframe"
    body = find(browser, "body")[0]
    body.send_keys("2", "f")  # fill the background with object 2, then take it back
    paint(browser, SIZE, [(5, 5)])
    saved(browser)
    assert mask(service, f"{base}/keyframes/0")[5, 5] == 2
    press(browser, "Undo")
    until(browser, lambda: (mask(service, f"{base}/keyframes/0") == both).all(), "the undo after a reload", 20)
    no_complaints(browser)


def test_undo_of_the_first_stroke_leaves_no_keyframe(browser, service, clip):
    base = start(browser, service, clip)
    go(browser, 3)
    paint(browser, SIZE, [(20, 20), (40, 20)])
    saved(browser)
    assert [k["frame"] for k in service.get(f"{base}/keyframes").json()] == [3]
    press(browser, "Undo")
    until(browser, lambda: service.get(f"{base}/keyframes").json() == [], "no keyframe", 20)
    press(browser, "Redo")
    until(browser, lambda: len(service.get(f"{base}/keyframes").json()) == 1, "a keyframe again", 20)
    press(browser, "Nothing here")
    until(browser, lambda: mask(service, f"{base}/keyframes/3").max() == 0, "an empty keyframe", 20)


def test_lost_connection(browser, service, clip):
    base = start(browser, service, clip)
    offline(browser, True)
    paint(browser, SIZE, [(20, 48), (60, 48)])
    until(browser, lambda: save_state(browser) == "offline", "the notice", 30)
    paint(browser, SIZE, [(20, 70), (60, 70)])
    offline(browser, False)
    saved(browser)
    painted = mask(service, f"{base}/keyframes/0")
    assert painted[48, 40] == 1 and painted[70, 40] == 1
    # A tab that is closed while offline: the next visit sends what it kept.
    url = browser.current_url
    offline(browser, True)
    paint(browser, SIZE, [(100, 20), (140, 20)])
    until(browser, lambda: save_state(browser) == "offline", "the notice again", 30)
    browser.get("about:blank")
    offline(browser, False)
    browser.get(url)
    until(browser, lambda: find(browser, "#canvas[aria-busy=false]"), "the editor", 60)
    saved(browser)
    assert mask(service, f"{base}/keyframes/0")[20, 120] == 1


def test_two_tabs(browser, service, clip):
    base = start(browser, service, clip)
    first = browser.current_window_handle
    url = browser.current_url
    browser.switch_to.new_window("tab")
    browser.get(url)
    until(browser, lambda: find(browser, "#canvas[aria-busy=false]"), "the second editor", 60)
    second = browser.current_window_handle
    browser.switch_to.window(first)
    paint(browser, SIZE, [(20, 20), (60, 20)])
    saved(browser)
    browser.switch_to.window(second)
    paint(browser, SIZE, [(20, 70), (60, 70)])
    until(browser, lambda: find(browser, "dialog.conflict[open]"), "the question", 30)
    assert save_state(browser) == "conflict"
    theirs = mask(service, f"{base}/keyframes/0")  # refused: nothing was written over
    assert theirs[20, 40] == 1 and theirs[70, 40] == 0
    browser.save_screenshot(str(SHOTS / "conflict.png"))
    press(browser, "Keep mine")
    saved(browser)
    mine = mask(service, f"{base}/keyframes/0")
    assert mine[70, 40] == 1 and mine[20, 40] == 0
    press(browser, "Undo")  # and theirs is one step away
    until(browser, lambda: (mask(service, f"{base}/keyframes/0") == theirs).all(), "their mask again", 20)
    paint(browser, SIZE, [(100, 70), (140, 70)])
    saved(browser)
    browser.switch_to.window(first)
    paint(browser, SIZE, [(100, 20), (140, 20)])
    until(browser, lambda: find(browser, "dialog.conflict[open]"), "the question to the first tab", 30)
    press(browser, "Take theirs")
    saved(browser)
    assert mask(service, f"{base}/keyframes/0")[20, 120] == 0
    press(browser, "Undo")
    until(browser, lambda: mask(service, f"{base}/keyframes/0")[20, 120] == 1, "my mask again", 20)


def test_phone_and_touch(browser, service, clip):
    emulate(browser, 390, 844, dark=True, mobile=True)
    base = start(browser, service, clip)
    touch(browser, SIZE, [(20, 48), (40, 48), (60, 48)])
    saved(browser)
    painted = mask(service, f"{base}/keyframes/0")
    assert painted[48, 40] == 1 and painted[10, 40] == 0
    touch(browser, SIZE, [(70, 48), (50, 48), (30, 48)], [(90, 48), (110, 48), (130, 48)])  # zooms, paints nothing
    assert find(browser, "#do-undo")[0].is_enabled() and save_state(browser) == "saved"
    press(browser, "Fit")
    touch(browser, SIZE, [(100, 80), (120, 80), (140, 80)])
    until(browser, lambda: mask(service, f"{base}/keyframes/0")[80, 120] == 1, "a second stroke", 20)
    assert (mask(service, f"{base}/keyframes/0")[:60] == painted[:60]).all()
    browser.save_screenshot(str(SHOTS / "editor-phone.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('button, a, input, select, canvas')].filter(e => !e.hidden && !e.closest('[aria-hidden]') &&"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)")
    assert unnamed == []


def test_the_whole_round(browser, service, clip):
    """Drop, paint, propagate, review, correct, propagate again, accept, export: every step by what is written on the page."""
    base = start(browser, service, clip)
    disc = [(10, 48), (10, 44), (14, 48), (10, 52), (6, 48), (10, 48)]
    paint(browser, SIZE, disc)
    saved(browser)
    press(browser, "Propagate")
    until(browser, lambda: "to review" in text(browser, "#guide"), "labels")
    labels = {label["frame"]: label for label in service.get(f"{base}/labels").json()}
    assert len(labels) == FRAMES and {label["source"] for n, label in labels.items() if n} == {"pseudo"}
    browser.save_screenshot(str(SHOTS / "editor-labels.png"))

    press(browser, "Review")
    worst = min((n for n in labels if n), key=lambda n: (labels[n]["confidence"], n))
    until(browser, lambda: text(browser, "#frame").startswith(f"frame {worst} "), "the least certain frame", 30)
    body = find(browser, "body")[0]
    body.send_keys("a")
    until(browser, lambda: service.get(f"{base}/labels/{worst}").json()["state"] == "accepted", "accepted", 30)
    until(browser, lambda: not text(browser, "#frame").startswith(f"frame {worst} "), "the next one", 30)
    second = int(text(browser, "#frame").split()[1])
    body.send_keys("r")
    until(browser, lambda: service.get(f"{base}/labels/{second}").json()["state"] == "rejected", "rejected", 30)
    until(browser, lambda: not text(browser, "#frame").startswith(f"frame {second} "), "the third", 30)
    third = int(text(browser, "#frame").split()[1])
    body.send_keys("c")
    paint(browser, SIZE, [(100, 20), (110, 20)])
    saved(browser)
    corrected = service.get(f"{base}/labels/{third}").json()
    assert (corrected["source"], corrected["state"]) == ("manual", "accepted")
    assert mask(service, f"{base}/keyframes/{third}")[20, 105] == 1

    until(browser, lambda: "Propagate again" in text(browser, "#guide"), "the advice", 30)
    press(browser, "Propagate")
    until(browser, lambda: "to review" in text(browser, "#guide") or "least certain" in text(browser, "#guide"), "labels again")
    assert not any(label.get("stale") for label in service.get(f"{base}/labels").json() if label["state"] == "proposed")
    find(browser, "#accept-above")[0].clear()
    find(browser, "#accept-above")[0].send_keys("0")
    press(browser, "Accept all above")
    until(browser, lambda: all(label["state"] != "proposed" for label in service.get(f"{base}/labels").json()), "all accepted", 30)

    press(browser, "Export")
    press(browser, "DAVIS")
    [archive] = until(browser, lambda: list(browser.downloads.glob("disc-davis*.zip")), "the export", 60)
    with zipfile.ZipFile(archive) as z:
        masks = [n for n in z.namelist() if n.startswith("Annotations/") and n.endswith(".png")]
        assert len(masks) >= FRAMES - 1
    no_complaints(browser)


def test_playback_and_keys(browser, service, clip):
    start(browser, service, clip)
    body = find(browser, "body")[0]
    body.send_keys(" ")
    until(browser, lambda: text(browser, "#frame").startswith(f"frame {FRAMES - 1} "), "the end", 30)
    until(browser, lambda: text(browser, "#do-play") == "Play", "the pause", 10)
    body.send_keys("?")
    until(browser, lambda: find(browser, "dialog.help[open]"), "the help sheet", 10)
    assert "Worst first" in text(browser, "dialog.help") or "worst first" in text(browser, "dialog.help")
    body.send_keys(Keys.ESCAPE, "e")
    assert find(browser, "#do-tool-eraser[aria-pressed=true]")
    body.send_keys("s")  # without a keyframe: a frame that stands for most others
    until(browser, lambda: find(browser, ".ed-stage .note:not([hidden])"), "the suggestion", 30)


def test_project_page(browser, service, clip):
    browser.get(f"{service.url}/#/projects")
    until(browser, lambda: find(browser, "#project-name"), "the projects")
    find(browser, "#project-name")[0].send_keys("Discs & more")
    press(browser, "New project")
    until(browser, lambda: find(browser, "#clip-file"), "the project", 30)
    project = browser.current_url.rsplit("/", 1)[1]
    find(browser, "#clip-file")[0].send_keys(str(clip))
    until(browser, lambda: find(browser, "#canvas[aria-busy=false]"), "the editor of the first clip", 60)
    paint(browser, SIZE, [(20, 48), (60, 48)])
    saved(browser)
    browser.get(f"{service.url}/#/projects/{project}")
    until(browser, lambda: "1 keyframe," in text(browser, ".clips"), "the counts", 30)
    find(browser, "summary")[0].click()
    find(browser, "#min-new-labels")[0].clear()
    find(browser, "#min-new-labels")[0].send_keys("7")
    press(browser, "Save settings")
    until(browser, lambda: service.get(f"/v1/projects/{project}").json()["retrain"]["min_new_labels"] == 7, "the settings", 20)
    press(browser, "Export")
    press(browser, "YouTube-VOS")
    [archive] = until(browser, lambda: list(browser.downloads.glob("Discs_more-youtube-vos*.zip")), "the export", 60)
    other = service.post("/v1/projects", json={"name": "again"}).json()["id"]
    browser.get(f"{service.url}/#/projects/{other}")
    until(browser, lambda: find(browser, "input[aria-label='Import labels']") and "again" in text(browser, "h1"), "the other project", 30)
    find(browser, "input[aria-label='Import labels']")[0].send_keys(str(archive))
    until(browser, lambda: "1 keyframe," in text(browser, ".clips"), "the import", 60)
    no_complaints(browser)
