"""Chromium for tests of the page: the fixture, waiting, finding, clicking by visible name, painting on the editor's canvas."""

import pathlib

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service as Driver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SHOTS = pathlib.Path(__file__).parents[2] / "build" / "screenshots"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    """One Chromium for the tests of a module; what it downloads lands in `chromium.downloads`."""
    downloads = tmp_path_factory.mktemp("downloads")
    options = Options()
    options.binary_location = "/usr/bin/chromium"
    for arg in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(arg)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Driver("/usr/bin/chromedriver"))
    driver.set_page_load_timeout(60)
    driver.downloads = downloads
    SHOTS.mkdir(parents=True, exist_ok=True)
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium):
    """A single empty tab of its own size, light, online, without old messages."""
    for handle in chromium.window_handles[1:]:
        chromium.switch_to.window(handle)
        chromium.close()
    chromium.switch_to.window(chromium.window_handles[0])
    chromium.get("about:blank")
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    offline(chromium, False)
    chromium.get_log("browser")
    return chromium


def until(browser, condition, what, timeout=180):
    return WebDriverWait(browser, timeout, 0.2, [StaleElementReferenceException]).until(lambda _: condition(), f"timed out: {what}")


def find(browser, css):
    return browser.find_elements(By.CSS_SELECTOR, css)


def text(browser, css):
    found = find(browser, css)
    return found[0].text if found else ""


def button(browser, name):
    """The visible button of that name, as a person or a screen reader knows it; None: not there (yet)."""
    found = browser.find_elements(By.XPATH, f"//button[@aria-label='{name}' or (not(@aria-label) and normalize-space()='{name}')]")
    shown = [b for b in found if b.is_displayed()]
    assert len(shown) < 2, f"{len(shown)} buttons named {name}"
    return shown[0] if shown else None


def press(browser, name):
    def ready():
        found = button(browser, name)
        return found if found and found.is_enabled() else None
    until(browser, ready, f"{name} can be pressed", 60).click()


def emulate(browser, width, height, dark=False, mobile=False):
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                            {"width": width, "height": height, "deviceScaleFactor": 2 if mobile else 1, "mobile": mobile})
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                            {"features": [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]})


def offline(browser, on):
    browser.execute_cdp_cmd("Network.enable", {})
    browser.execute_cdp_cmd("Network.emulateNetworkConditions",
                            {"offline": on, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1})


def save_state(browser):
    return find(browser, "#save-state")[0].get_attribute("data-state")


def on_canvas(browser, size, points):
    """Where pixels of the frame are, from the canvas' centre. size is the frame's, shown as a whole."""
    canvas = find(browser, "#canvas")[0]
    until(browser, lambda: canvas.get_attribute("aria-busy") == "false", "the frame", 60)
    box = canvas.size
    scale = min(box["width"] / size[0], box["height"] / size[1])
    return canvas, [(round((x - size[0] / 2) * scale), round((y - size[1] / 2) * scale)) for x, y in points]


def paint(browser, size, points):
    """Drags the mouse over the picture along points in pixels of the frame."""
    canvas, at = on_canvas(browser, size, points)
    chain = ActionChains(browser, duration=40).move_to_element_with_offset(canvas, *at[0]).click_and_hold()
    for (x0, y0), (x1, y1) in zip(at, at[1:]):
        chain = chain.move_by_offset(x1 - x0, y1 - y0)
    chain.release().perform()


def touch(browser, size, *fingers):
    """Moves fingers over the picture at once: each a list of points, all of the same length."""
    paths = []
    for finger in fingers:
        canvas, at = on_canvas(browser, size, finger)
        box = browser.execute_script("const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", canvas)
        paths.append([(box[0] + x, box[1] + y) for x, y in at])
    for i, step in enumerate(zip(*paths)):
        browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchMove" if i else "touchStart", "touchPoints": [
            {"x": x, "y": y, "id": k} for k, (x, y) in enumerate(step)]})
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
