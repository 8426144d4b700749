"""``python -m website.pictures NAME PAGE``: pictures of a report for the docs, on a desk and on a phone.

They are ``docs/NAME-report.png`` and ``docs/NAME-report-phone.png``; ``PAGE`` is the report's HTML file. It
needs Chromium and the development tools.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_SCREENS = {"report": (1200, 1500, 1), "report-phone": (390, 844, 2)}
"""Width and height in pixels of the page, and pixels of the picture for each of them."""


def take(name: str, page: Path, folder: Path) -> list[Path]:
    """Take the pictures of a page into a folder; return their paths.

    Raises ``ValueError`` where there is no Chromium.
    """
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        raise ValueError("pictures need Chromium: apt-get install chromium")
    taken = []
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for screen, (width, height, scale) in _SCREENS.items():
            shown = chromium.new_page(
                viewport={"width": width, "height": height}, device_scale_factor=scale, color_scheme="light"
            )
            shown.goto(page.resolve().as_uri())
            taken.append(folder / f"{name}-{screen}.png")
            shown.screenshot(path=taken[-1])
        chromium.close()
    return taken


if __name__ == "__main__":
    for picture in take(sys.argv[1], Path(sys.argv[2]), Path(__file__).resolve().parent.parent / "docs"):
        print(picture)
