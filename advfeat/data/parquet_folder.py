"""Which Parquet files a path or any fsspec URI names, and of which split each is.

The folder of an artifact holds those that its manifest names. Others may lie beside them, of a writer who
came second or from before a repair.
"""

import re
from typing import Any

from advfeat.data.refusal import Refusal
from advfeat.errors import DamagedArtifactError, explained
from advfeat.files.place import Place
from advfeat.storage import MOST_MANIFEST_BYTES, parse_manifest

_SPLIT = re.compile(r"(?:partial-)?(train|test|val(?=id|[^a-z]|$))")
"""Names of splits, also as the Hub converts data sets: ``train/0000.parquet``, ``partial-train`` if large."""


def files_by_split(place: Place, refused: Refusal) -> dict[str, list[str]]:
    """List the file at a place, or the Parquet files in the folder there.

    All of them under ``all``, those of a split also under ``train``, ``test`` or ``val``.
    """
    fs, root = place.fs, place.root
    with explained(refused):
        if not fs.exists(root):
            raise refused("does not exist")
        if fs.isfile(root):
            return {"all": [root]}
        files = _files_of_artifact(fs, root, refused)
        if files is None:
            files = [path for path in place.below() if path.endswith(".parquet")]
    found: dict[str, list[str]] = {"all": sorted(files), "train": [], "test": [], "val": []}
    for path in found["all"]:
        if split := _split_of(path.removeprefix(root)):
            found[split].append(path)
    return found


def _files_of_artifact(fs: Any, root: str, refused: Refusal) -> list[str] | None:
    """Return the Parquet files that a manifest in the folder names; None if there is no manifest."""
    if not fs.isfile(f"{root}/manifest.json"):
        return None
    with fs.open(f"{root}/manifest.json", "rb") as file:
        try:
            manifest = parse_manifest(file.read(MOST_MANIFEST_BYTES + 1))
        except DamagedArtifactError as damage:
            raise refused(f"cannot be read: {damage}") from damage
    return [f"{root}/{file.path}" for file in manifest.files if file.path.endswith(".parquet")]


def _split_of(path: str) -> str | None:
    """Return what the file's name, or else that of the nearest folder with such a name, starts with."""
    for name in reversed(path.split("/")):
        if found := _SPLIT.match(name):
            return found[1]
    return None
