"""A page in Chromium, as it is installed on the machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 120_000
"""Milliseconds that a page may take on a machine with other work."""
DESK, PHONE = (1200, 800), (390, 844)
"""Width and height of a screen, in pixels of CSS."""

needs_browser = pytest.mark.skipif(_BROWSER is None, reason="needs Chromium: apt-get install chromium")


@contextmanager
def browser_page(height: int) -> Iterator[Page]:
    """Give an empty page, 1280 pixels wide."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1280, "height": height})
        page.set_default_timeout(_PATIENCE)
        expect.set_options(timeout=_PATIENCE)
        yield page
        browser.close()


def show(page: Page, path: Path, screen: tuple[int, int]) -> None:
    """Open a file on a screen of some width and height."""
    page.set_viewport_size({"width": screen[0], "height": screen[1]})
    page.goto("about:blank")  # else the second visit of one page would keep what was opened
    page.goto(path.as_uri())


def on_first_screen(page: Page, selector: str) -> bool:
    """Tell whether all of an element is seen without scrolling."""
    box = page.locator(selector).first.bounding_box()
    screen = page.viewport_size
    assert box is not None
    assert screen is not None
    seen = box["x"] + box["width"] <= screen["width"] and box["y"] + box["height"] <= screen["height"]
    return seen and min(box["x"], box["y"]) >= 0 < box["height"]
