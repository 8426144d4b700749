"""Opens Parquet files whose sizes can be believed, so that reading one takes the memory that it says.

A footer tells how many values a file holds and how large they are once unpacked; the reader takes memory
as it is told. Here that must fit the file's length before anything is unpacked; what each page says of
itself is compared in ``parquet_pages``. Types of other packages, whose values may be pickles, are refused,
but for arrays of Hugging Face's datasets.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from advfeat.errors import first_line
from advfeat.files.expansion import believed_bytes
from advfeat.files.parquet_footer import read_footer

_OF_ARROW = (pa.FixedShapeTensorType, pa.JsonType, pa.UuidType, pa.Bool8Type)
_OF_DATASETS = {f"datasets.features.features.Array{rank}DExtensionType" for rank in (2, 3, 4, 5)}
"""Nothing in them is a pickle: Hugging Face's are described by JSON."""

_MOST_NESTING = 16
_LEVEL_BYTES = 4
_LIST_BYTES = {
    pa.types.is_list: 4,
    pa.types.is_large_list: 8,
    pa.types.is_list_view: 8,
    pa.types.is_large_list_view: 16,
}
"""Where a list of any length begins, and how long a view is."""

_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


class ParquetFileError(ValueError):
    """A file that is no Parquet, or whose sizes or types cannot be believed."""


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file after a check of its footer; raises ``ParquetFileError`` and ``OSError``.

    Before a column is read, ``check_pages`` tells whether its pages keep to the footer.
    """
    try:
        metadata = read_footer(file)
        # Buffering ahead, which is the default, would bring the whole file into memory.
        parquet = pq.ParquetFile(file, metadata=metadata, pre_buffer=False)
        schema = parquet.schema_arrow
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ParquetFileError(first_line(error)) from error
    for name, kind in zip(schema.names, schema.types, strict=True):
        _check_type(name, kind)
    _check_sizes(metadata, schema, file.seek(0, 2))
    return parquet


def chunks(
    metadata: pq.FileMetaData, columns: Collection[str] | None = None
) -> Iterator[tuple[int, pq.ColumnChunkMetaData, pq.ColumnSchema]]:
    """Yield the number of each row group with its chunk of each column, and what the column's type is.

    ``columns`` are paths with dots; what lies below them is meant too. All if unset.
    """
    places = [metadata.schema.column(number).path for number in range(metadata.num_columns)]
    wanted = [
        number
        for number, place in enumerate(places)
        if columns is None or any(f"{place}.".startswith(f"{column}.") for column in columns)
    ]
    for group in range(metadata.num_row_groups):
        for number in wanted:
            yield group, metadata.row_group(group).column(number), metadata.schema.column(number)


def first_byte(chunk: pq.ColumnChunkMetaData) -> int:
    """Return where in its file a chunk of a column begins."""
    offsets = [chunk.data_page_offset, chunk.dictionary_page_offset if chunk.has_dictionary_page else None]
    # A row group without rows has no data page, and 0 for its place, where Parquet's mark stands.
    return min((int(offset) for offset in offsets if offset), default=0)


def row_bytes(parquet: pq.ParquetFile, columns: Collection[str]) -> int:
    """Return how much memory a row of some columns takes, by the footer: the mean of the largest row group.

    ``columns`` are paths with dots; what lies below them is meant too.
    """
    groups = defaultdict[int, int](int)
    for number, chunk, description in chunks(parquet.metadata, columns):
        groups[number] += _unpacked_bytes(chunk, description, parquet.schema_arrow)
    rows = {number: max(1, parquet.metadata.row_group(number).num_rows) for number in groups}
    return max((-(-size // rows[number]) for number, size in groups.items()), default=1)


def _check_type(name: str, kind: pa.DataType, nesting: int = 0) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        if not (isinstance(kind, _OF_ARROW) or kind.extension_name in _OF_DATASETS):
            raise ParquetFileError(f"column {name} has the type {kind.extension_name} of another package")
        kind = kind.storage_type
    if nesting > _MOST_NESTING:
        raise ParquetFileError(f"column {name} is nested too deeply")
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else []
    inner += [kind.field(number).type for number in range(kind.num_fields)]
    for part in inner:
        _check_type(name, part, nesting + 1)


def _check_sizes(metadata: pq.FileMetaData, schema: pa.Schema, size: int) -> None:
    unpacked = 0
    for _, chunk, description in chunks(metadata):
        start, length = first_byte(chunk), chunk.total_compressed_size
        if min(start, length, chunk.num_values, chunk.total_uncompressed_size) < 0 or start + length > size:
            raise ParquetFileError(f"column {description.path} does not lie in the file")
        unpacked += _unpacked_bytes(chunk, description, schema)
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ParquetFileError(f"it has {sum(rows):,} rows, its footer says {metadata.num_rows:,}")
    allowed = believed_bytes(size)
    if max(unpacked, metadata.num_rows) > allowed:
        raise ParquetFileError(
            f"{size:,} bytes are said to hold {metadata.num_rows:,} rows in {unpacked:,}, which is more than "
            f"the {allowed:,} that are believed"
        )


def fields_of(schema: pa.Schema, description: pq.ColumnSchema) -> list[pa.DataType]:
    """Return the type of the field that a column lies in; of several if their names begin alike."""
    top = description.path.partition(".")[0]
    return [field.type for field in schema if field.name.partition(".")[0] == top]


def _unpacked_bytes(chunk: pq.ColumnChunkMetaData, description: pq.ColumnSchema, schema: pa.Schema) -> int:
    value_bytes = _VALUE_BYTES.get(description.physical_type, description.length)
    inner_lists = max(map(_inner_list_bytes, fields_of(schema, description)), default=0)
    in_memory = chunk.num_values * (value_bytes + _LEVEL_BYTES + inner_lists)
    return int(max(chunk.total_uncompressed_size, in_memory))


def _inner_list_bytes(kind: pa.DataType) -> int:
    """Return what a value takes in the lists that lie in lists: each of them may hold one, or none."""
    sizes: list[int] = []
    while True:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if not is_list(kind):
            return sum(sizes[1:])
        sizes.append(next((size for is_one, size in _LIST_BYTES.items() if is_one(kind)), 0))
        kind = kind.value_type


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a type is one of Arrow's lists."""
    return any(is_one(kind) for is_one in (*_LIST_BYTES, pa.types.is_fixed_size_list))
