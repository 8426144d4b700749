"""Images in Parquet, in a column that pandas, Hugging Face datasets and Ray Data read as it is.

``image`` is an Arrow fixed-size list of C·H·W values in channel, row, column order, or for stored real
images their C·H·W bytes: Parquet has no number smaller than 32 bits, and lists of bytes take ten times
as long to read. The table's ``advfeat`` metadata holds the shape. Arrow's fixed-shape tensor type would
carry the shape itself, but Hugging Face datasets refuses it.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate, chain, cycle, islice, pairwise, repeat
from pathlib import Path
from typing import Annotated, Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advfeat.errors import DamagedArtifactError, first_line
from advfeat.files.parquet_file import ParquetFileError, open_parquet
from advfeat.files.parquet_pages import check_pages
from advfeat.files.parts import ROWS_PER_GROUP, part_name, rows_per_group, rows_per_part

Pixel = TypeVar("Pixel", np.uint8, np.float32)

METADATA_KEY = b"advfeat"
_FAST = "lz4"
"""Pages that do not get smaller, like those of perturbed images, cost next to nothing to read."""


def image_column(
    images: NDArray[np.uint8] | NDArray[np.float16] | NDArray[np.float32],
) -> pa.FixedSizeListArray:
    """Wrap images (N, C, H, W) as an Arrow column of N rows, without copying."""
    values = pa.array(np.ascontiguousarray(images).reshape(-1))
    # Parquet's own name for it: a table that was read and is written again has the same bytes.
    each = pa.list_(pa.field("element", values.type), int(np.prod(images.shape[1:])))
    return pa.FixedSizeListArray.from_arrays(values, type=each)


def bytes_column(images: NDArray[np.uint8]) -> pa.BinaryArray:
    """Wrap images (N, C, H, W) of up to 2 GiB as an Arrow column of N strings of bytes, without copying."""
    values = np.ascontiguousarray(images)
    ends = np.arange(len(values) + 1, dtype=np.int32) * np.int32(np.prod(values.shape[1:]))
    return pa.Array.from_buffers(
        pa.binary(), len(values), [None, pa.py_buffer(ends), pa.py_buffer(values.reshape(-1))]
    )


def with_image_shape(table: pa.Table, shape: tuple[int, ...]) -> pa.Table:
    """Return the table with the images' shape (C, H, W) in its metadata."""
    content = json.dumps({"image_shape": list(shape)}).encode()
    return table.replace_schema_metadata({**(table.schema.metadata or {}), METADATA_KEY: content})


def image_shape(schema: pa.Schema) -> tuple[int, ...]:
    """Return the shape (C, H, W) of a table's images; raises ``DamagedArtifactError`` if it does not say."""
    try:
        return _Metadata.model_validate_json((schema.metadata or {})[METADATA_KEY]).image_shape
    except (KeyError, ValidationError) as error:
        raise DamagedArtifactError(f"the table says no shape of images ({first_line(error)})") from error


class _Metadata(BaseModel):
    model_config = ConfigDict(strict=True)

    image_shape: tuple[Annotated[int, Field(ge=1, le=1 << 20)], ...] = Field(max_length=8)


def image_array(table: pa.Table, pixel: type[Pixel]) -> NDArray[Pixel]:
    """Return a copy of the ``image`` column as an array (N, C, H, W).

    Raises ``DamagedArtifactError`` if the table does not say the images' shape, or they have another.
    """
    shape: tuple[int, ...] = image_shape(table.schema)
    for chunk in _column(table, "image").chunks:
        _values(chunk, math.prod(shape))  # before memory is taken for what the shape says
    images = np.empty((table.num_rows, *shape), pixel)
    copy_images(table, images)
    return images


def copy_images(table: pa.Table, to: NDArray[Pixel]) -> None:
    """Copy the ``image`` column into an array (N, C, H, W).

    Raises ``DamagedArtifactError`` if the images do not fit.
    """
    start = 0
    for chunk in _column(table, "image").chunks:
        stop = start + len(chunk)
        values = _values(chunk, math.prod(to.shape[1:]))
        to[start:stop] = values.reshape(to[start:stop].shape)
        start = stop


def float_array(table: pa.Table, column: str) -> NDArray[np.float32]:
    """Return a copy of a column of lists of one length as an array (N, length).

    Raises ``DamagedArtifactError`` if there is no such column.
    """
    lists = _column(table, column).combine_chunks()
    length = lists.type.list_size if pa.types.is_fixed_size_list(lists.type) else 0
    return np.array(_values(lists, length), np.float32).reshape(table.num_rows, length)


def int_array(table: pa.Table, column: str) -> NDArray[np.int64]:
    """Return a copy of an integer column as an int64 array.

    Raises ``DamagedArtifactError`` if there is no such column.
    """
    values = _column(table, column)
    if not pa.types.is_integer(values.type) or values.null_count:
        raise DamagedArtifactError(f"column {column} does not hold only whole numbers")
    return np.array(values.to_numpy(), dtype=np.int64)


def write_table(table: pa.Table, path: Path) -> None:
    """Write a table in row groups of ``ROWS_PER_GROUP``, whatever chunks it was made of."""
    pq.write_table(
        table.combine_chunks(),
        path,
        row_group_size=ROWS_PER_GROUP,
        compression="zstd",
        use_dictionary=False,
    )


def write_split(
    tables: Iterable[pa.Table],
    folder: Path,
    split: str,
    finished: Callable[[Path], None],
    *,
    first_row: int = 0,
    rows_before: int = 0,
) -> None:
    """Write tables of one schema, at least one, below each other into the parts of a split.

    No more than a row group is in memory beside the table at hand, and the parts' bytes depend on the
    rows alone. ``finished`` takes over each part once it is whole. Parts are named by their rows, the first
    of which is ``first_row``. Where the rows are a piece of another split, ``rows_before`` come before them
    there: they are cut where that split is, so that it can have the parts that lie within the piece.
    """
    tables = iter(tables)
    first = next(tables)
    rows, in_group = part_rows(first.schema), rows_per_group(_row_bytes(first.schema))
    room = rows - rows_before % rows
    groups = _cut(
        chain([first], tables), chain(_group_sizes(room, in_group), cycle(_group_sizes(rows, in_group)))
    )
    start = first_row
    for group in groups:
        path = folder / part_name(split, start)
        with pq.ParquetWriter(path, group.schema, compression=_FAST, use_dictionary=False) as writer:
            for one in chain([group], islice(groups, len(_group_sizes(room, in_group)) - 1)):
                writer.write_table(one.combine_chunks(), row_group_size=in_group)
                start += one.num_rows
        finished(path)
        room = rows


def part_rows(schema: pa.Schema) -> int:
    """Return how many rows of these columns a part holds, if it is not the last one of its split."""
    return rows_per_part(_row_bytes(schema))


def regrouped(tables: Iterable[pa.Table], rows: int) -> Iterator[pa.Table]:
    """Return the same rows in tables of ``rows`` rows each; the last one holds the rest, at least one row.

    Tables without any row become one such table.
    """
    return _cut(tables, repeat(rows))


def _cut(tables: Iterable[pa.Table], sizes: Iterator[int]) -> Iterator[pa.Table]:
    rest: pa.Table | None = None
    size = next(sizes)
    for table in tables:
        rest = table if rest is None else pa.concat_tables([rest, table])
        while rest.num_rows > size:
            yield rest.slice(0, size)
            rest = rest.slice(size)
            size = next(sizes)
    if rest is not None:
        yield rest


def _group_sizes(rows: int, in_group: int) -> list[int]:
    """Return the sizes of the row groups of a part."""
    return [min(in_group, rows - start) for start in range(0, rows, in_group)]


def read_table(content: bytes) -> pa.Table:
    """Read a Parquet table from bytes; raises ``DamagedArtifactError``."""
    with _explained():
        return _opened(content).read(use_threads=False)


def read_tables(
    content: bytes | BinaryIO, columns: Sequence[str] | None = None, rows: range | None = None
) -> Iterator[pa.Table]:
    """Read a Parquet table, a row group at a time; at least one table, perhaps without rows.

    ``content`` is its bytes, or an open file, of which no more is read than it takes. ``columns`` and
    ``rows`` limit it to some columns, as far as they are there, and to consecutive rows.
    Raises ``DamagedArtifactError``.
    """
    with _explained():
        file = _opened(content, columns)
    sizes = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
    edges = list(accumulate(sizes, initial=0))
    wanted = range(edges[-1]) if rows is None else rows
    groups = [
        group
        for group, (start, stop) in enumerate(pairwise(edges))
        if wanted.start < stop and start < wanted.stop
    ]
    for group in groups:
        with _explained():
            table = file.read_row_group(group, columns, use_threads=False)
        skipped = max(0, wanted.start - edges[group])
        yield table.slice(skipped, wanted.stop - edges[group] - skipped)
    if not groups:
        yield file.read_row_groups([], columns)


def _row_bytes(schema: pa.Schema) -> int:
    """Return how many bytes of memory a row takes."""
    return sum(_value_bytes(field.type, schema) for field in schema)


def _value_bytes(kind: pa.DataType, schema: pa.Schema) -> int:
    if pa.types.is_binary(kind):
        return math.prod(image_shape(schema))
    if pa.types.is_fixed_size_list(kind):
        return int(kind.list_size) * _value_bytes(kind.value_type, schema)
    return int(kind.bit_width) // 8


def _opened(content: bytes | BinaryIO, columns: Sequence[str] | None = None) -> pq.ParquetFile:
    """Open a Parquet table whose sizes were compared with its bytes; no rows of ``columns`` share a value."""
    file = pa.BufferReader(content) if isinstance(content, bytes) else content
    parquet = open_parquet(file)
    if check_pages(file, parquet, columns):
        raise ParquetFileError("its rows repeat values of a dictionary, which advfeat does not write")
    return parquet


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedArtifactError(f"the table cannot be read ({first_line(error)})") from error


def _column(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        raise DamagedArtifactError(f"the table has no column {name}")
    return table.column(name)


def _values(column: pa.Array, each: int) -> NDArray[Any]:
    """Return the values of rows of ``each`` bytes or numbers as one array, without copying.

    Raises ``DamagedArtifactError`` if a row has more, or fewer.
    """
    if not len(column):
        return np.empty(0, np.uint8)
    kind = column.type
    if pa.types.is_binary(kind):
        _, buffer, content = column.buffers()
        ends = np.frombuffer(buffer, np.int32)[column.offset : column.offset + len(column) + 1]
        if not column.null_count and (np.diff(ends) == each).all():
            return np.frombuffer(content, np.uint8)[ends[0] : ends[-1]]
    elif pa.types.is_fixed_size_list(kind) and pa.types.is_primitive(kind.value_type):
        values = column.flatten()
        if kind.list_size == each and not (column.null_count or values.null_count):
            return np.asarray(values.to_numpy(zero_copy_only=False))
    raise DamagedArtifactError(f"rows of {kind} do not hold {each} values each")
