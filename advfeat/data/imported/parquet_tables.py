"""A finished data set as Parquet: one that advfeat made, or pictures in the Hugging Face layout.

An image column (``image`` or ``img``) and a label column (``label`` or ``labels``). Of a folder the files of
the training split count, or all if none tells its split. Where the metadata says the images' shape, as
in ``advfeat.files.tables``, an image is a list of C·H·W values or as many bytes; else it is an encoded
picture. Other columns are not read.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from advfeat.data.decode import Pictures, picture_shape
from advfeat.data.parquet_files import ParquetFiles
from advfeat.data.parquet_folder import files_by_split
from advfeat.data.picture_file import READING
from advfeat.data.refusal import Refusal
from advfeat.errors import DamagedArtifactError, explained
from advfeat.files.parts import float_images_per_group
from advfeat.files.place import place_of
from advfeat.files.tables import METADATA_KEY, image_shape


class ParquetTables:
    """Parquet files with pixels or pictures, and integer labels."""

    def __init__(self, location: str, refused: Refusal) -> None:
        with explained(refused):
            place = place_of(location)
        found = files_by_split(place, refused)
        files = found.get("train") or found["all"]
        if not files:
            raise refused("holds no .parquet file")
        if not found.get("train") and (found.get("test") or found.get("val")):
            raise refused("holds files of a test or validation split and none of train")
        self._files, self._refused = ParquetFiles(place, files, refused), refused

    def sha256(self) -> list[str]:
        """Hash every file."""
        return self._files.sha256()

    def reading(self) -> dict[str, int]:
        """Say by which version pictures are decoded; nothing of pixels."""
        return {"reading": READING} if self._image_shape() is None else {}

    def labels(self) -> NDArray[np.int64]:
        """Read all labels."""
        return self._files.labels()

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images a piece at a time."""
        shape = self._image_shape()
        return self._pictures() if shape is None else self._pixels(shape)

    def _pictures(self) -> Iterator[NDArray[Any]]:
        labels = self._files.labels()
        shape = picture_shape(self._files.first_picture(), None)
        at_once = float_images_per_group(shape)
        pictures = Pictures(labels, self._files.pictures, shape, None)
        return (piece.images for piece in pictures.pieces(np.arange(len(labels)), at_once))

    def _pixels(self, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        for path, column in self._files.images():
            of_bytes = pa.types.is_binary(column.type)
            with explained(self._refused):
                lengths = pc.binary_length(column) if of_bytes else pc.list_value_length(column)
                if pc.unique(lengths).to_pylist() != [math.prod(shape)]:
                    raise self._refused(f"has images in {path} that are not {math.prod(shape)} values each")
                if of_bytes:
                    values = np.frombuffer(b"".join(column.to_pylist()), np.uint8)
                else:
                    values = column.flatten().to_numpy(zero_copy_only=False)
            yield values.reshape(-1, *shape)

    def _image_shape(self) -> tuple[int, ...] | None:
        """Return the shape (C, H, W) that the metadata says, if it does; raises ``InputError``."""
        schema = self._files.schema()
        if METADATA_KEY not in (schema.metadata or {}):
            return None
        try:
            channels, height, width = image_shape(schema)
        except (DamagedArtifactError, ValueError) as error:
            raise self._refused("says no image_shape [C, H, W] under advfeat in its metadata") from error
        return channels, height, width
