"""The pages in a real browser: headless Chromium, driven by selenium."""

import base64
import signal

import pytest

from tests.browser import By, Keys, chromium, needs_browser, wait
from tests.serve.images import encoded, noise
from tests.serve.processes import start

pytestmark = [pytest.mark.slow, needs_browser]
DROP = """
const bytes = Uint8Array.from(atob(arguments[0]), letter => letter.charCodeAt(0));
const dropped = new DataTransfer();
dropped.items.add(new File([bytes], arguments[1], {type: "image/png"}));
const event = new DragEvent("drop", {dataTransfer: dropped, bubbles: true, cancelable: true});
document.getElementById("drop").dispatchEvent(event);
"""


@pytest.fixture(scope="module")
def browser():
    with chromium(390, 800) as driver:
        yield driver


@pytest.fixture
def opened(browser):
    """Return a function: a run -> the browser with its page; no script of it may fail."""
    processes = []

    def open_page(run):
        process, address = start(run)
        processes.append(process)
        browser.get(address)
        return browser

    yield open_page
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert browser.get_log("browser") == []


def elements(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def drop(browser, content, name):
    browser.execute_script(DROP, base64.b64encode(content).decode(), name)


def assert_fits_a_phone(browser):
    """Assert that nothing is wider than the window."""
    width, window = browser.execute_script(
        "return [document.documentElement.scrollWidth, innerWidth]"
    )
    assert width <= window


def test_dropped_photo_is_answered_with_bars_and_a_bad_one_with_its_reason(opened, averaged_run):
    page = opened(averaged_run)
    wait(page, lambda page: "10 classes" in page.find_element(By.ID, "about").text)
    drop(page, encoded(noise(28, 28)), "digit.png")
    (article,) = wait(page, lambda page: elements(page, "article:has(h2)"))
    rows = article.find_elements(By.CSS_SELECTOR, ".row")
    assert len(rows) == 5
    assert rows[0].text.split("\n")[0] == article.find_element(By.TAG_NAME, "h2").text
    assert rows[0].text.endswith("%")
    assert article.find_element(By.TAG_NAME, "figcaption").text == "digit.png"
    drop(page, b"not an image", "bad.png")
    wait(page, lambda page: elements(page, "article .warn"))
    assert elements(page, "article .warn")[0].text == "this is not a readable image"
    assert_fits_a_phone(page)


def test_a_button_swaps_the_photo_for_its_heat_map_and_back(opened, run_of):
    page = opened(run_of("cnn"))
    drop(page, encoded(noise(28, 28)), "digit.png")
    (article,) = wait(page, lambda page: elements(page, "article:has(button)"))
    button = article.find_element(By.TAG_NAME, "button")
    for text, caption in [("Show the photo", "red: evidence"), ("Show the evidence", "digit.png")]:
        button.click()
        wait(page, lambda page, text=text: button.text == text)
        assert article.find_element(By.TAG_NAME, "figcaption").text.startswith(caption)


def test_sliders_move_the_image_by_keyboard(opened, run_of):
    page = opened(run_of("cdcgan"))
    wait(page, lambda page: len(elements(page, "#gallery img")) == 12)
    picture = page.find_element(By.ID, "picture")
    before = wait(page, lambda _: picture.get_attribute("src"))
    slider = elements(page, ".slider input")[0]
    for _ in range(20):
        slider.send_keys(Keys.ARROW_RIGHT)
    assert elements(page, ".slider output")[0].text == "2.0"
    wait(page, lambda _: picture.get_attribute("src") != before)
    page.find_element(By.ID, "center").send_keys(Keys.ENTER)
    wait(page, lambda _: picture.get_attribute("src") == before)
    page.find_element(By.ID, "label").send_keys("7")
    wait(page, lambda _: picture.get_attribute("src") != before)
    page.find_element(By.ID, "random").send_keys(Keys.SPACE)
    wait(page, lambda page: "seed 0" not in page.find_element(By.ID, "where").text)
    assert_fits_a_phone(page)


def test_painting_plays_to_its_last_step(opened, run_of):
    page = opened(run_of("draw"))
    wait(page, lambda page: page.find_element(By.ID, "number").text == "step 3 of 3")
    assert len(elements(page, ".window")) == 8
    slider = page.find_element(By.ID, "step")
    slider.send_keys(Keys.HOME)
    assert page.find_element(By.ID, "number").text == "step 0 of 3"
    assert not elements(page, ".window")[0].is_displayed(), "nothing is written yet"
    slider.send_keys(Keys.ARROW_RIGHT)
    assert elements(page, ".window")[0].is_displayed()
    assert_fits_a_phone(page)


@pytest.mark.parametrize("model", ["cyclegan", "style_transfer_own"])
def test_dropped_photo_is_shown_beside_its_translation(opened, run_of, model):
    page = opened(run_of(model))
    wait(page, lambda page: "trained" in page.find_element(By.ID, "about").text)
    drop(page, encoded(noise(20, 30, 3)), "photo.png")
    wait(page, lambda page: len(elements(page, "article img")) == 2)
    loaded = "return [...document.images].every(one => one.complete && one.naturalWidth > 0)"
    wait(page, lambda page: page.execute_script(loaded))
    assert_fits_a_phone(page)
