"""Whether what the pages of a site point to is there, which the generator checks of Markdown links alone."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

_ADDRESSES = {"href", "src"}
_LOADED = {"img", "script", "iframe", "source"}
"""The elements whose address a browser opens without being asked."""


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.targets: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"id", "name"} and value:
                self.names.add(value)
            elif name in _ADDRESSES and value is not None:
                self.targets.append((tag, value))


def problems(site: Path) -> Iterator[str]:
    """Name each address that leads nowhere, or that a browser would fetch from the network, with its page."""
    pages = {file: _parsed(file) for file in sorted(site.rglob("*.html"))}
    for file, page in pages.items():
        for tag, address in page.targets:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                if tag in _LOADED or (tag == "link" and parts.scheme != "data"):
                    yield f"{file.relative_to(site)}: {address} is on the network"
                continue
            path = unquote(parts.path)
            start = site if path.startswith("/") else file.parent
            target = (start / path.lstrip("/")).resolve() if path else file
            target = target / "index.html" if target.is_dir() else target
            if not target.is_file():
                yield f"{file.relative_to(site)}: {address} leads to no file"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].names:
                yield f"{file.relative_to(site)}: {address} leads to no place on the page"


def _parsed(file: Path) -> _Page:
    page = _Page()
    page.feed(file.read_text(encoding="utf-8"))
    return page
