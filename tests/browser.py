"""A page in Chromium, as it is installed on the machine."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Page, expect, sync_playwright

_BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
_PATIENCE = 120_000
"""Milliseconds that a page may take on a machine with other work."""

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
