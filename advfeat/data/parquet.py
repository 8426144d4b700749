"""Parquet in the Hugging Face image layout, from a path or any fsspec URI.

An image column (``img`` or ``image``: a struct with the encoded picture in ``bytes``) and a label
column (``label`` or ``labels``). The location is a file or a folder; in a folder, names of files or of
folders in it that start with ``train`` and ``test`` are the splits.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.decode import Pictures, picture_shape
from advfeat.data.images import Splits
from advfeat.data.parquet_files import ParquetFiles
from advfeat.data.parquet_folder import files_by_split
from advfeat.data.picture_file import READING
from advfeat.data.refusal import refusal
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.errors import explained
from advfeat.files.place import place_of
from advfeat.spec import DataSpec


class ParquetSource:
    """Parquet files with encoded pictures and integer labels."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give whole Parquet files with an image and a label column (Hugging Face image layout)",
        )
        with explained(self._error):
            self._place = place_of(location)

    def identity(self) -> dict[str, Any]:
        """Hash every file's bytes, after a look at their footers and labels."""
        identity: dict[str, Any] = {"image_size": self.spec.image_size, "reading": READING}
        for name, files in self._splits.items():
            self._labels(files)
            identity[name] = files.sha256()
        if len(self._splits) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        return {"parquet": identity}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test rows."""
        labels = [self._labels(files) for files in self._splits.values()]
        return given_or_held_out_sizes(labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width, from the first picture."""
        return picture_shape(self._first.first_picture(), self.spec.image_size)

    def class_count(self) -> int:
        """Count the classes that the file names, or else up to the largest label."""
        names = self._first.class_names()
        return len(names) or 1 + max(int(files.labels().max()) for files in self._splits.values())

    def splits(self) -> Splits:
        """Read all labels; pictures are read when they are asked for."""
        classes = self._first.class_names() or tuple(map(str, range(self.class_count())))
        shape = self.image_shape()
        pictures = [
            Pictures(self._labels(files), files.pictures, shape, self.spec.image_size)
            for files in self._splits.values()
        ]
        return given_or_held_out(pictures, classes, self.spec.test_fraction)

    @property
    def _first(self) -> ParquetFiles:
        return next(iter(self._splits.values()))

    @cached_property
    def _splits(self) -> dict[str, ParquetFiles]:
        found = files_by_split(self._place, self._error)
        splits = {name: found.get(name, []) for name in ("train", "test")}
        if not all(splits.values()):
            if any(splits.values()) or not found["all"]:
                raise self._error("holds no train*.parquet and test*.parquet")
            splits = {"all": found["all"]}
        return {name: ParquetFiles(self._place, files, self._error) for name, files in splits.items()}

    def _labels(self, files: ParquetFiles) -> NDArray[np.int64]:
        return files.labels(len(files.class_names()) or None)
