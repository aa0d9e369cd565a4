"""The page at /, driven in headless Chromium: upload, watch, play, step, download; phone width; what is announced."""

import pathlib

from browser import SHOTS, browser, chromium, emulate, find, text, until  # noqa: F401 (fixtures)
from selenium.webdriver.common.keys import Keys

DEMO = pathlib.Path(__file__).parents[1] / "data" / "demo.mp4"


def upload(browser, service, path):
    browser.get(f"{service.url}/")
    until(browser, lambda: find(browser, "#file"), "the upload form")
    find(browser, "#file")[0].send_keys(str(path))


# How much of the canvas differs from `other` (or, without one, from plain black), 0..1.
INK = """
const c = document.querySelector('canvas'), g = document.createElement('canvas').getContext('2d');
g.canvas.width = c.width; g.canvas.height = c.height; g.drawImage(c, 0, 0);
const d = g.getImageData(0, 0, c.width, c.height).data;
let n = 0; for (let i = 0; i < d.length; i += 4) n += d[i] + d[i + 1] + d[i + 2] > 60;
return n / (d.length / 4);
"""


def test_round_of_a_visitor(browser, service):
    upload(browser, service, DEMO)
    until(browser, lambda: text(browser, ".state") == "succeeded", "the job's end")
    until(browser, lambda: text(browser, "output").startswith("frame 0"), "the first frame")
    until(browser, lambda: browser.execute_script(INK) > 0.9, "a picture on the canvas")
    browser.save_screenshot(str(SHOTS / "job.png"))

    body = find(browser, "body")[0]
    body.send_keys("4")  # the map alone: mostly black, with something in it
    assert 0.002 < until(browser, lambda: browser.execute_script(INK) or None, "a map") < 0.6
    assert find(browser, "button[aria-pressed=true]")[0].text == "map"
    body.send_keys("1", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    until(browser, lambda: text(browser, "output").startswith("frame 2 "), "two steps forward")
    body.send_keys(Keys.END)
    until(browser, lambda: text(browser, "output").startswith("frame 95 "), "the last frame")
    body.send_keys(Keys.HOME, Keys.SPACE)
    until(browser, lambda: not text(browser, "output").startswith("frame 0 "), "playing")

    [zipped] = [b for b in find(browser, "button") if "Maps" in b.text]
    zipped.click()
    until(browser, lambda: list(browser.downloads.glob("*-maps.zip")), "the downloaded zip", 30)
    severe = [line for line in browser.get_log("browser") if line["level"] == "SEVERE" and "/v1/models" not in line["message"]]
    assert severe == []


def test_refused_file_is_explained(browser, service, tmp_path):
    bad = tmp_path / "notes.mp4"
    bad.write_text("this is not a video")
    upload(browser, service, bad)
    until(browser, lambda: text(browser, ".drop .error"), "an error in words", 30)
    assert find(browser, ".drop button")[0].is_enabled()


def test_phone_width_and_dark(browser, service):
    emulate(browser, 390, 844, dark=True, mobile=True)
    browser.get(f"{service.url}/")
    until(browser, lambda: find(browser, "table"), "the jobs")
    browser.save_screenshot(str(SHOTS / "phone.png"))
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 26)"
    # everything that can be clicked has a name
    unnamed = browser.execute_script(
        "return [...document.querySelectorAll('button, a, input, select')].filter(e => !e.hidden &&"
        " !(e.textContent.trim() || e.getAttribute('aria-label') || e.labels?.length)).map(e => e.outerHTML)")
    assert unnamed == []


def test_unknown_page(browser, service):
    browser.get(f"{service.url}/#/nowhere")
    until(browser, lambda: "No such page" in text(browser, "main"), "the message")
