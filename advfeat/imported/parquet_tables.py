"""A finished data set as Parquet: one that advfeat made, or pictures in the Hugging Face layout.

An image column (``image`` or ``img``) and a label column (``label`` or ``labels``). Of a folder the files
whose names start with ``train`` count, or all if there are none. Pixels are lists of C·H·W values, and the
metadata says the shape, as in ``advfeat.tables``; other columns are not read.
"""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from advfeat.data.decode import Pictures, picture_shape
from advfeat.data.parquet_files import ParquetFiles, files_by_split
from advfeat.data.refusal import Refusal

_ROWS_AT_ONCE = 1024


class ParquetTables:
    """Parquet files with pixels or pictures, and integer labels."""

    def __init__(self, location: str, refused: Refusal) -> None:
        found = files_by_split(location, refused)
        files = found.get("train") or found["all"]
        if not files:
            raise refused("holds no .parquet file")
        self._files, self._refused = ParquetFiles(location, files, refused), refused

    def sha256(self) -> list[str]:
        """Hash every file."""
        return self._files.sha256()

    def labels(self) -> NDArray[np.int64]:
        """Read all labels."""
        return self._files.labels()

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images a piece at a time."""
        schema = self._files.schema()
        kind = schema.field("image").type
        if pa.types.is_struct(kind) or pa.types.is_binary(kind):
            labels = self._files.labels()
            shape = picture_shape(next(self._files.pictures()), None)
            pictures = Pictures(labels, self._files.pictures, shape, None)
            return (piece.images for piece in pictures.pieces(np.arange(len(labels)), _ROWS_AT_ONCE))
        return self._pixels(_image_shape(schema, self._refused))

    def _pixels(self, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
        for path, column in self._files.images():
            lengths = pc.unique(pc.list_value_length(column)).to_pylist()
            if lengths != [np.prod(shape)] or column.flatten().null_count:
                raise self._refused(f"has images in {path} that are not {np.prod(shape)} values each")
            yield column.flatten().to_numpy(zero_copy_only=False).reshape(-1, *shape)


def _image_shape(schema: pa.Schema, refused: Refusal) -> tuple[int, ...]:
    """Return the shape (C, H, W) that the metadata names; raises ``InputError``."""
    try:
        channels, height, width = json.loads((schema.metadata or {})[b"advfeat"])["image_shape"]
        return int(channels), int(height), int(width)
    except (KeyError, TypeError, ValueError) as error:
        raise refused("says no image_shape [C, H, W] under advfeat in its metadata") from error
