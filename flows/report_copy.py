"""A report, copied out of the store to where a browser can open it."""

import re
from pathlib import Path

from advfeat.cluster.embedded import HOME
from advfeat.errors import InputError, explained
from advfeat.storage import Store


def local_copy(place: Store, digest: str, name: str) -> Path:
    """Copy a report out of the store; return the page's path. Raises ``InputError`` where none can lie."""
    folder = HOME.resolve() / "reports"

    def refused(problem: str) -> InputError:
        return InputError("folder", str(folder), problem, "work in a folder that you may write to")

    with explained(refused, "cannot be made"):
        folder.mkdir(parents=True, exist_ok=True)
    page = folder / f"{_file_name(name)}-{digest[:12]}.html"
    for file in place.manifest(digest).files:
        if file.name.startswith("report."):
            page.with_suffix(Path(file.name).suffix).write_bytes(place.read(digest, file.name))
    return page


def _file_name(name: str) -> str:
    """Return what of an experiment's name a file can have: no slash, and no more than 200 bytes."""
    plain = re.sub(r"[\x00-\x1f/]", "-", name).lstrip(".")
    return plain.encode()[:200].decode(errors="ignore")
