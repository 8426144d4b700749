"""Which Parquet files a path or any fsspec URI names, and of which split each is.

The folder of an artifact holds those that its manifest names. Others may lie beside them, of a writer who
came second or from before a repair.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from advfeat.data.refusal import Refusal
from advfeat.data.split_names import roles_in
from advfeat.data.table_shards import check_one_set
from advfeat.errors import DamagedArtifactError, explained
from advfeat.files.place import Place
from advfeat.storage import MOST_MANIFEST_BYTES, parse_manifest

_BEGINS_WITH = re.compile(r"(?:partial-)?(train|test)", re.IGNORECASE)
"""Of names such as ``trainA``; the Hub calls large sets that it converts ``partial-train``."""


@dataclass(frozen=True)
class TableFiles:
    """The Parquet files of a place, sorted, and those whose names tell a split by ``Role``."""

    every: list[str]
    of_split: dict[str, list[str]] = field(default_factory=dict)
    left_out: Mapping[str, list[str]] = field(default_factory=dict)
    """What else lies there, by what it is, as it is called from there."""
    root: str = ""
    told: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What is odd about the files of a split, each as a predicate."""

    @property
    def of_no_split(self) -> list[str]:
        """The files that tell no split beside such that do, as they are called from the place."""
        told = {path for files in self.of_split.values() for path in files}
        return [_below(self.root, path) for path in self.every if told and path not in told]


def table_files(place: Place, refused: Refusal) -> TableFiles:
    """List the file at a place, or the Parquet files in the folder there.

    Hidden files and folders, and such whose names begin with an underscore, are left out, as Arrow leaves
    them out. Raises what ``refused`` makes.
    """
    fs, root = place.fs, place.root
    with explained(refused):
        if not fs.exists(root):
            raise refused("does not exist")
        if fs.isfile(root):
            return TableFiles([root])
        there = place.below()
        named = _files_of_artifact(fs, root, refused)
    tables = [path for path in there if path.lower().endswith(".parquet")]
    if named is None:
        every = [path for path in tables if not _is_hidden(_below(root, path))]
        left_out = "hidden, or named with an underscore"
    else:
        every, left_out = sorted(named), "not of the artifact"
    of_split: dict[str, list[str]] = {}
    outer: dict[str, dict[str, str]] = {}
    for path in every:
        if split := _split_of(path.removeprefix(root)):
            of_split.setdefault(split, []).append(path)
            below = _below(root, path)
            outer.setdefault(split, {})[below] = _told_in(below, split)
    told = {}
    if named is None:
        told = {split: check_one_set(split, files, refused) for split, files in outer.items()}
    others = [path for path in sorted({*there} - {*tables}) if not path.endswith("/manifest.json")]
    unread = {left_out: sorted({*tables} - {*every}), "no .parquet files": others}
    return TableFiles(
        every,
        of_split,
        {what: [_below(root, path) for path in paths] for what, paths in unread.items()},
        root,
        told,
    )


def _below(root: str, path: str) -> str:
    return path.removeprefix(root).lstrip("/")


def _is_hidden(path: str) -> bool:
    return any(part.startswith((".", "_")) for part in PurePosixPath(path).parts)


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
    """Return what the file's name, or else that of the nearest folder with such a name, tells."""
    return next(filter(None, map(_split_in, reversed(path.split("/")))), None)


def _split_in(name: str) -> str | None:
    if begins := _BEGINS_WITH.match(name):
        return begins[1].lower()
    roles = roles_in(name)
    return roles.pop() if len(roles) == 1 else None


def _told_in(path: str, split: str) -> str:
    """Return the folder of the outermost file or folder, on the way to a file, whose name tells its split."""
    parts = path.split("/")
    first = next(place for place, name in enumerate(parts) if _split_in(name) == split)
    return "/".join(parts[:first])
