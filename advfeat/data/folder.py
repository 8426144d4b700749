"""Image folders: one folder a class, with or without ``train/`` and ``test/`` above them."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.decode import PictureFile, Pictures, picture_shape
from advfeat.data.images import Splits
from advfeat.data.picture_file import picture_suffixes
from advfeat.data.refusal import refusal
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.digest import file_sha256
from advfeat.errors import explained
from advfeat.files.place import local_path
from advfeat.spec import DataSpec


class FolderSource:
    """A folder of pictures; the class names are the folders' names in alphabetical order."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give a folder with one folder of pictures a class",
        )
        with explained(self._error):
            self.folder = local_path(location)

    def identity(self) -> dict[str, Any]:
        """Hash every picture's name and bytes."""
        content = hashlib.sha256()
        for split in self._splits():
            for path, _ in self._pictures(split):
                content.update(f"{path.relative_to(self.folder).as_posix()}\0".encode())
                content.update(bytes.fromhex(file_sha256(path)))
        identity: dict[str, Any] = {"folder": content.hexdigest(), "image_size": self.spec.image_size}
        if len(self._splits()) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        return identity

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test pictures."""
        labels = [_labels(self._pictures(split)) for split in self._splits()]
        return given_or_held_out_sizes(labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width, from the first picture."""
        first, _ = self._pictures(self._splits()[0])[0]
        return picture_shape((str(first), first.read_bytes()), self.spec.image_size)

    def class_count(self) -> int:
        """Count the classes' folders."""
        return len(self._class_names(self._splits()[0]))

    def splits(self) -> Splits:
        """List all pictures; they are read when they are asked for."""
        folders = self._splits()
        classes = tuple(self._class_names(folders[0]))
        shape = self.image_shape()
        listed = [picture_files(self._pictures(folder), shape, self.spec.image_size) for folder in folders]
        return given_or_held_out(listed, classes, self.spec.test_fraction)

    def _splits(self) -> list[Path]:
        if not self.folder.is_dir():
            raise self._error("is no folder")
        named = [self.folder / "train", self.folder / "test"]
        splits = named if all(split.is_dir() for split in named) else [self.folder]
        if len(self._class_names(splits[0])) < 2:
            raise self._error("has fewer than two class folders with pictures")
        if self._class_names(splits[0]) != self._class_names(splits[-1]):
            raise self._error("has other classes in test/ than in train/")
        return splits

    def _class_names(self, split: Path) -> list[str]:
        folders = sorted(path for path in split.iterdir() if path.is_dir())
        return [path.name for path in folders if any(map(is_picture, path.rglob("*")))]

    def _pictures(self, split: Path) -> list[tuple[Path, int]]:
        return [
            (path, label)
            for label, name in enumerate(self._class_names(split))
            for path in sorted((split / name).rglob("*"))
            if is_picture(path)
        ]


def picture_files(
    pictures: list[tuple[Path, int]], shape: tuple[int, ...], image_size: int | None
) -> Pictures:
    """Return labelled files as pictures that are read when they are asked for."""

    def read(rows: NDArray[np.int64]) -> Iterator[PictureFile]:
        paths = (pictures[row][0] for row in rows)
        return ((str(path), path.read_bytes()) for path in paths)

    return Pictures(_labels(pictures), read, shape, image_size)


def is_picture(path: Path) -> bool:
    """Tell whether a path is a file with a picture's suffix."""
    return path.suffix.lower() in picture_suffixes() and path.is_file()


def _labels(pictures: list[tuple[Path, int]]) -> NDArray[np.int64]:
    return np.array([label for _, label in pictures], dtype=np.int64)
