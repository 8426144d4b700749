"""Restricted ImageNet: nine classes, each a range of ImageNet's thousand.

Origin: Tsipras et al. 2019, "Robustness May Be at Odds with Accuracy" (arXiv 1805.12152); Ilyas et al. 2019
use it beside CIFAR-10. It is made from an ImageNet folder: ``train/`` and ``val/`` with a folder of pictures
for each of the 1,000 WordNet ids. Only pictures that are used are opened, a piece of them at a time.
"""

import hashlib
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any

from advfeat.data.folder import picture_files
from advfeat.data.images import Split, Splits
from advfeat.data.picture_tree import is_picture
from advfeat.data.refusal import refusal
from advfeat.data.split import drawn_rows
from advfeat.digest import file_sha256
from advfeat.errors import explained
from advfeat.files.place import local_path
from advfeat.pictures.picture_file import READING
from advfeat.spec import DataSpec

# First and last class number in ImageNet, whose classes are in the order of their WordNet ids:
# RESTRICTED_IMAGNET_RANGES of MadryLab/robustness, robustness/tools/constants.py; names: label_maps.py.
RANGES = {
    "dog": (151, 268),
    "cat": (281, 285),
    "frog": (30, 32),
    "turtle": (33, 37),
    "bird": (80, 100),
    "primate": (365, 382),
    "fish": (389, 397),
    "crab": (118, 121),
    "insect": (300, 319),
}
_IMAGENET_CLASSES = 1000
_SIDE = 224
"""What ImageNet's networks see, unless the spec asks for another size."""

_FILES_AT_ONCE = 16


class RestrictedImageNet:
    """The pictures of the nine classes, cut to the middle square and resized; ``val/`` is the test split."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give a folder with train/ and val/, in each a folder of pictures for each of the WordNet ids",
        )
        with explained(self._error):
            self.folder = local_path(location)

    def identity(self) -> dict[str, Any]:
        """Hash the names of all pictures, and the bytes of those that are used."""
        content = hashlib.sha256()
        for pictures, size in (
            (self._train, self.spec.train_size),
            (self._val, self.spec.test_size),
        ):
            for path, label in pictures:
                content.update(f"{path.relative_to(self.folder).as_posix()}\0{label}\0".encode())
            used = [pictures[row][0] for row in drawn_rows(len(pictures), size)]
            with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
                for digest in pool.map(file_sha256, used):
                    content.update(bytes.fromhex(digest))
        return {
            "restricted-imagenet": content.hexdigest(),
            "image_size": self._side,
            "reading": READING,
        }

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test pictures."""
        return len(self._train), len(self._val)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width; grey pictures become coloured ones."""
        return 3, self._side, self._side

    def class_count(self) -> int:
        """Count the classes."""
        return len(RANGES)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes."""
        return tuple(RANGES)

    def splits(self) -> Splits:
        """List all pictures; they are read when they are asked for."""
        train, test = (
            picture_files(pictures, self.image_shape(), self._side) for pictures in (self._train, self._val)
        )
        return Splits(Split.whole(train), Split.whole(test), tuple(RANGES))

    @property
    def _side(self) -> int:
        return self.spec.image_size or _SIDE

    @cached_property
    def _train(self) -> list[tuple[Path, int]]:
        return list(self._pictures("train"))

    @cached_property
    def _val(self) -> list[tuple[Path, int]]:
        return list(self._pictures("val"))

    def _pictures(self, split: str) -> Iterator[tuple[Path, int]]:
        folders = self._class_folders(split)
        for label, (name, (first, last)) in enumerate(RANGES.items()):
            found = [
                path
                for folder in folders[first : last + 1]
                for path in sorted(folder.iterdir())
                if is_picture(path)
            ]
            if not found:
                raise self._error(f"has no picture of class {name} in {split}/")
            yield from ((path, label) for path in found)

    def _class_folders(self, split: str) -> list[Path]:
        folder = self.folder / split
        if not folder.is_dir():
            raise self._error(f"has no folder {split}/")
        found = sorted(path for path in folder.iterdir() if re.fullmatch(r"n\d{8}", path.name))
        if len(found) != _IMAGENET_CLASSES:
            raise self._error(
                f"has {len(found)} folders named like n01440764 in {split}/, ImageNet {_IMAGENET_CLASSES}"
            )
        return found
