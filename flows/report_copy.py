"""A report, copied out of the store to where a browser can open it."""

from pathlib import Path

from advfeat.cluster.embedded import HOME
from advfeat.storage import Store


def local_copy(place: Store, digest: str, name: str) -> Path:
    """Copy a report out of the store; return the page's path."""
    page = HOME.resolve() / "reports" / f"{name}-{digest[:12]}.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    for file in place.manifest(digest).files:
        if file.name.startswith("report."):
            page.with_suffix(Path(file.name).suffix).write_bytes(place.read(digest, file.name))
    return page
