"""Image folders: one folder a class, with or without splits such as ``train/`` and ``test/`` above them."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.decode import Decoding, Pictures, decoding
from advfeat.data.folder_layout import FolderLayout, folder_layout
from advfeat.data.images import Splits
from advfeat.data.picture_tree import PictureTree, picture_tree
from advfeat.data.pixel_range import told_of_dark
from advfeat.data.refusal import refusal
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.digest import file_sha256
from advfeat.errors import explained
from advfeat.files.place import local_path
from advfeat.pictures.form import PictureFile
from advfeat.spec import DataSpec


class FolderSource:
    """A folder of pictures; the class names are the folders' names in alphabetical order."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give a folder with one folder of pictures per class, optionally below train/ and test/",
        )
        with explained(self._error):
            self.folder = local_path(location)

    def identity(self) -> dict[str, Any]:
        """Hash every picture's name and bytes."""
        content = hashlib.sha256()
        with explained(self._error):
            for split in self._pictures:
                for path, _ in split:
                    content.update(f"{path.as_posix()}\0".encode(errors="surrogateescape"))
                    content.update(bytes.fromhex(file_sha256(self.folder / path)))
        identity: dict[str, Any] = {
            "folder": content.hexdigest(),
            "image_size": self.spec.image_size,
            **self._decoding.identity,
        }
        if len(self._pictures) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        return identity

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test pictures."""
        labels = [_labels(split) for split in self._pictures]
        return given_or_held_out_sizes(labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width: the first picture's, with colours if a training picture has."""
        return self._decoding.shape

    def class_count(self) -> int:
        """Count the classes' folders."""
        return len(self._layout.classes)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes."""
        return self._layout.classes

    def splits(self) -> Splits:
        """List all pictures; they are read when they are asked for."""
        shape = self.image_shape()
        listed = [
            picture_files([(self.folder / path, label) for path, label in split], shape, self.spec.image_size)
            for split in self._pictures
        ]
        return given_or_held_out(listed, self._layout.classes, self.spec.test_fraction)

    def told(self) -> tuple[str, ...]:
        """Say which folders were taken for what their names do not say, or left out, and of dark pictures."""
        return (*self._layout.told, *told_of_dark(self.splits().train))

    def left_out(self) -> dict[str, Sequence[PurePath]]:
        """List what is not read, by what it is."""
        return {
            "left by the system": self._tree.left_by_system,
            "no pictures": self._tree.no_pictures,
            "folders without a picture": self._tree.bare_folders,
        }

    @cached_property
    def _decoding(self) -> Decoding:
        files = (_content(self.folder / path) for path, _ in self._layout.train)
        with explained(self._error):
            return decoding(files, self.spec.image_size)

    @cached_property
    def _tree(self) -> PictureTree:
        if not self.folder.is_dir():
            raise self._error("is not a folder")
        with explained(self._error):
            return picture_tree(self.folder)

    @cached_property
    def _layout(self) -> FolderLayout:
        return folder_layout(self._tree, self._error)

    @property
    def _pictures(self) -> list[list[tuple[PurePath, int]]]:
        """The training and the test split, or all that they are to be cut from."""
        layout = self._layout
        return [layout.train] if layout.test is None else [layout.train, layout.test]


def picture_files(
    pictures: list[tuple[Path, int]], shape: tuple[int, ...], image_size: int | None
) -> Pictures:
    """Return labelled files as pictures that are read when they are asked for."""

    def read(rows: NDArray[np.int64]) -> Iterator[PictureFile]:
        return (_content(pictures[row][0]) for row in rows)

    return Pictures(_labels(pictures), read, shape, image_size)


def _content(path: Path) -> PictureFile:
    return str(path), path.read_bytes()


def _labels(pictures: Sequence[tuple[PurePath, int]]) -> NDArray[np.int64]:
    return np.array([label for _, label in pictures], dtype=np.int64)
