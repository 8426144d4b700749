"""The pictures below a folder, and what lies beside them: what the system left, and files of other kinds."""

import os
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path, PurePath

from advfeat.pictures.picture_file import picture_suffixes

_OF_THE_SYSTEM = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r"),
    *("@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
}
"""What systems and tools leave under names without a dot, in lower case."""


@dataclass(frozen=True)
class PictureTree:
    """Paths below a folder, relative to it, in alphabetical order."""

    pictures: tuple[PurePath, ...]
    left_by_system: tuple[PurePath, ...]
    """Dot files and the like; of a folder of such only itself."""
    no_pictures: tuple[PurePath, ...]
    """Files whose suffix is of no picture, and links that lead nowhere."""
    bare_folders: tuple[PurePath, ...]
    """Folders that hold no picture at any depth; of nested ones only the outermost."""


def is_left_by_system(name: str) -> bool:
    """Tell whether a file or folder of this name is none of the user's: dot files, ``__MACOSX``, …."""
    return name.startswith(".") or name.casefold() in _OF_THE_SYSTEM


def is_picture(path: Path) -> bool:
    """Tell whether a path is a user's file with a picture's suffix."""
    return _has_suffix(path.name) and not is_left_by_system(path.name) and path.is_file()


def picture_tree(folder: Path) -> PictureTree:
    """Walk a folder, through links too, each folder once a way down; raises ``OSError``."""
    pictures: list[PurePath] = []
    left: list[PurePath] = []
    others: list[PurePath] = []
    bare: list[PurePath] = []

    def walk(place: PurePath, above: frozenset[tuple[int, int]]) -> bool:
        """List a folder whose parents are ``above``, and tell whether a picture is in it."""
        there = (folder / place).stat()
        if (own := (there.st_dev, there.st_ino)) in above:
            return False
        found, bare_below = False, []
        with os.scandir(folder / place) as entries:
            for entry in entries:
                path = place / entry.name
                if is_left_by_system(entry.name):
                    left.append(path)
                elif entry.is_dir():
                    if walk(path, above | {own}):
                        found = True
                    else:
                        bare_below.append(path)
                elif _has_suffix(entry.name) and entry.is_file():
                    found = True
                    pictures.append(path)
                else:
                    others.append(path)
        if found:
            bare.extend(bare_below)
        return found

    walk(PurePath(), frozenset())
    return PictureTree(
        *(tuple(sorted(paths, key=attrgetter("parts"))) for paths in (pictures, left, others, bare))
    )


def _has_suffix(name: str) -> bool:
    return PurePath(name).suffix.lower() in picture_suffixes()
