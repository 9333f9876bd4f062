"""Headless Chromium, driven by selenium."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.common.exceptions import TimeoutException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

__all__ = ["By", "Keys", "TimeoutException", "all_text", "chromium", "needs_browser", "wait"]

DRIVER = shutil.which("chromedriver")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
needs_browser = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="no chromium with its chromedriver"
)
ALL_TEXT = """
const skipped = ["STYLE", "SCRIPT", "TEMPLATE"];
const visit = node => {
  if (node.nodeType === Node.TEXT_NODE) return node.textContent.trim();
  if (skipped.includes(node.nodeName)) return "";
  const inside = [...node.childNodes, ...(node.shadowRoot ? [node.shadowRoot] : [])];
  return inside.map(visit).filter(text => text).join("\\n");
};
return visit(document.body);
"""


@contextmanager
def chromium(width: int, height: int) -> Iterator[Any]:
    """Start a browser with a window of this size; it keeps what its scripts log."""
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu",
                 f"--window-size={width},{height}"):  # fmt: skip
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def wait(browser, found, seconds=60):
    """Wait until `found(browser)` is true, and return it."""
    return WebDriverWait(browser, seconds).until(found)


def all_text(browser) -> str:
    """Return the words of a page, a line for each element, also those inside web components."""
    return browser.execute_script(ALL_TEXT)
