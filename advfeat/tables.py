"""Images in Parquet, in a column that pandas, Hugging Face datasets and Ray Data read as it is.

``image`` is an Arrow fixed-size list of C·H·W values (uint8 or float32) in channel, row, column
order; the table's ``advfeat`` metadata holds the shape. Arrow's fixed-shape tensor type would carry
the shape itself, but Hugging Face datasets refuses it.
"""

import io
import json
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advfeat.errors import DamagedArtifactError

Pixel = TypeVar("Pixel", np.uint8, np.float32)

ROWS_PER_GROUP = 1024
_VALUES_PER_GROUP = 1 << 24
"""Writing takes about 14 bytes of memory a value."""

_METADATA_KEY = b"advfeat"


def image_column(images: NDArray[np.uint8] | NDArray[np.float32]) -> pa.FixedSizeListArray:
    """Wrap images (N, C, H, W) as an Arrow column of N rows, without copying."""
    values = np.ascontiguousarray(images).reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), int(np.prod(images.shape[1:])))


def with_image_shape(table: pa.Table, shape: tuple[int, ...]) -> pa.Table:
    """Return the table with the images' shape (C, H, W) in its metadata."""
    content = json.dumps({"image_shape": list(shape)}).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), _METADATA_KEY: content})


def image_array(table: pa.Table, pixel: type[Pixel]) -> NDArray[Pixel]:
    """Return a copy of the ``image`` column as an array (N, C, H, W).

    Raises ``DamagedArtifactError`` if the table does not say the images' shape.
    """
    try:
        shape: list[int] = json.loads((table.schema.metadata or {})[_METADATA_KEY])["image_shape"]
        column = table.column("image").combine_chunks()
        values = column.flatten().to_numpy(zero_copy_only=False).astype(pixel)
        return np.asarray(values.reshape((table.num_rows, *shape)), dtype=pixel)
    except (KeyError, ValueError, TypeError) as error:
        raise DamagedArtifactError(f"no images of a known shape in the table ({error})") from error


def float_array(table: pa.Table, column: str) -> NDArray[np.float32]:
    """Return a copy of a column of lists of one length as an array (N, length)."""
    values = table.column(column).combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return np.array(values, np.float32).reshape(table.num_rows, -1)


def int_array(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Return a copy of an integer column as an int64 array."""
    return np.array(table.column(column).to_numpy(), dtype=np.int64)


def rows_per_group(image_shape: tuple[int, ...]) -> int:
    """Return how many images make a row group: ``ROWS_PER_GROUP``, or fewer if they are large."""
    return max(1, min(ROWS_PER_GROUP, _VALUES_PER_GROUP // int(np.prod(image_shape))))


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in row groups of ``ROWS_PER_GROUP``, whatever chunks it was made of."""
    pq.write_table(
        table.combine_chunks(),
        path,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        use_dictionary=False,
    )


def write_tables(tables: Iterable[pa.Table], path: Path) -> None:
    """Write tables of one schema below each other, each a row group, so that only one is in memory.

    Tables of ``ROWS_PER_GROUP`` rows, the last one perhaps smaller, give the bytes that ``write_table``
    gives for all of them together; larger ones make several row groups.
    """
    tables = iter(tables)
    first = next(tables)
    with pq.ParquetWriter(path, first.schema, compression="zstd", use_dictionary=False) as writer:
        for table in chain([first], tables):
            writer.write_table(table.combine_chunks(), row_group_size=ROWS_PER_GROUP)


def read_table(content: bytes) -> pa.Table:
    """Read a Parquet table from bytes."""
    return pq.read_table(io.BytesIO(content))
