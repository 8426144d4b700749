"""A finished data set as Parquet: one that advfeat made, or pictures in the Hugging Face layout.

Columns are those of ``advfeat.data.parquet``. Of a folder the files of the training split count, or all if
none tells its split. Where the metadata says the images' shape, as in ``advfeat.files.tables``, an image is a
list of C·H·W values or as many bytes; else it is an encoded picture, or nested lists. Other columns are not
read.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.decode import Decoding, Pictures, decoding
from advfeat.data.labels import UNLABELLED, GivenLabels
from advfeat.data.parquet_files import ParquetFiles
from advfeat.data.parquet_folder import table_files
from advfeat.data.refusal import Refusal
from advfeat.errors import explained
from advfeat.files.parts import float_images_per_group
from advfeat.files.place import place_of


class ParquetTables:
    """Parquet files with pixels or pictures, and labels."""

    def __init__(self, location: str, refused: Refusal) -> None:
        with explained(refused):
            place = place_of(location)
        found = table_files(place, refused)
        if not found.every:
            raise refused("holds no .parquet file")
        if found.of_split and "train" not in found.of_split:
            raise refused("holds files of a test or validation split and none of train")
        files = found.of_split.get("train", found.every)
        self._files, self._refused = ParquetFiles(place, files, refused), refused

    def sha256(self) -> list[str]:
        """Hash every file."""
        return self._files.sha256()

    def reading(self) -> dict[str, int]:
        """Say how pictures are decoded; nothing of pixels."""
        return self._decoding.identity if self._files.holds_pictures else {}

    def labels(self) -> GivenLabels:
        """Read all labels; raises ``InputError`` if one is missing."""
        labels = self._files.labels
        if missing := int((labels.numbers == UNLABELLED).sum()):
            raise self._refused(f"has {missing:,} rows without a label")
        return labels

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images a piece at a time."""
        return self._pictures() if self._files.holds_pictures else self._files.pixels()

    @cached_property
    def _decoding(self) -> Decoding:
        return decoding(self._files.some_pictures(), None)

    def _pictures(self) -> Iterator[NDArray[Any]]:
        labels = self._files.labels.numbers
        shape = self._decoding.shape
        at_once = float_images_per_group(shape)
        pictures = Pictures(labels, self._files.pictures, shape, None)
        return (piece.images for piece in pictures.pieces(np.arange(len(labels)), at_once))
