"""Opens Parquet files whose sizes can be believed, so that reading one takes the memory that it says.

A footer tells how many values a file holds and how large they are once unpacked, and each page tells it
again; the reader takes memory as it is told. Here both must fit each other and the file's length before
anything is unpacked. Types of other packages, whose values may be pickles, are refused.
"""

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from advfeat.errors import first_line
from advfeat.expansion import believed_bytes
from advfeat.page_header import PageHeader, read_page_header

_HEADER_BYTES = (1 << 9, 1 << 20)
"""How much of a page is read for its header: most are short, statistics of long values make it longer."""

_MOST_NESTING = 16
_LEVEL_BYTES = 4
_VALUE_BYTES = {"BOOLEAN": 1, "INT32": 4, "INT64": 8, "INT96": 12, "FLOAT": 4, "DOUBLE": 8, "BYTE_ARRAY": 4}


class ParquetFileError(ValueError):
    """A file that is no Parquet, or whose sizes or types cannot be believed."""


def open_parquet(file: BinaryIO) -> pq.ParquetFile:
    """Open a Parquet file after a check of its footer; raises ``ParquetFileError`` and ``OSError``.

    Before a column is read, ``check_pages`` tells whether its pages keep to the footer.
    """
    try:
        # Buffering ahead, which is the default, would bring the whole file into memory.
        parquet = pq.ParquetFile(file, pre_buffer=False)
        schema = parquet.schema_arrow
    except (pa.ArrowException, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ParquetFileError(first_line(error)) from error
    for name, kind in zip(schema.names, schema.types, strict=True):
        _check_type(name, kind)
    _check_sizes(parquet.metadata, file.seek(0, 2))
    return parquet


def check_pages(file: BinaryIO, parquet: pq.ParquetFile, columns: set[str] | None = None) -> None:
    """Raise ``ParquetFileError`` if pages are larger, packed or unpacked, than the footer says.

    ``columns`` are names of top-level columns; all if unset. Page headers alone are read.
    """
    for chunk, _ in _chunks(parquet.metadata):
        if columns is not None and chunk.path_in_schema.split(".")[0] not in columns:
            continue
        unpacked = sum(_page_sizes(file, _start(chunk), chunk.total_compressed_size))
        if unpacked > chunk.total_uncompressed_size:
            raise ParquetFileError(
                f"the pages of {chunk.path_in_schema} unpack to {unpacked:,} bytes, not to "
                f"{chunk.total_uncompressed_size:,}"
            )


def _check_type(name: str, kind: pa.DataType, nesting: int = 0) -> None:
    if isinstance(kind, pa.BaseExtensionType):
        raise ParquetFileError(f"column {name} has the type {kind.extension_name} of another package")
    if nesting > _MOST_NESTING:
        raise ParquetFileError(f"column {name} is nested too deeply")
    inner = [kind.value_type] if pa.types.is_dictionary(kind) else []
    inner += [kind.field(number).type for number in range(kind.num_fields)]
    for part in inner:
        _check_type(name, part, nesting + 1)


def _check_sizes(metadata: pq.FileMetaData, size: int) -> None:
    unpacked = 0
    for chunk, description in _chunks(metadata):
        place = chunk.path_in_schema
        start, length = _start(chunk), chunk.total_compressed_size
        if min(start, length, chunk.num_values, chunk.total_uncompressed_size) < 0 or start + length > size:
            raise ParquetFileError(f"column {place} does not lie in the file")
        value_bytes = _VALUE_BYTES.get(chunk.physical_type, description.length)
        unpacked += max(chunk.total_uncompressed_size, chunk.num_values * (value_bytes + _LEVEL_BYTES))
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise ParquetFileError(f"it has {sum(rows):,} rows, its footer says {metadata.num_rows:,}")
    allowed = believed_bytes(size)
    if max(unpacked, metadata.num_rows) > allowed:
        raise ParquetFileError(
            f"{size:,} bytes are said to hold {metadata.num_rows:,} rows in {unpacked:,}, which is more than "
            f"the {allowed:,} that are believed"
        )


def _chunks(metadata: pq.FileMetaData) -> Iterator[tuple[pq.ColumnChunkMetaData, pq.ColumnSchema]]:
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in range(group.num_columns):
            yield group.column(column), metadata.schema.column(column)


def _start(chunk: pq.ColumnChunkMetaData) -> int:
    offsets = [chunk.data_page_offset, chunk.dictionary_page_offset if chunk.has_dictionary_page else None]
    return min(int(offset) for offset in offsets if offset is not None)


def _page_sizes(file: BinaryIO, start: int, length: int) -> Iterator[int]:
    """Yield the unpacked size of each page of a column chunk, its header's included."""
    at, end = start, start + length
    while at < end:
        header = _page_header(file, at, end)
        at += header.length + header.packed
        if min(header.packed, header.unpacked) < 0 or at > end:
            raise ParquetFileError("a page does not lie in its column")
        yield header.length + header.unpacked


def _page_header(file: BinaryIO, at: int, end: int) -> PageHeader:
    for length in _HEADER_BYTES:
        file.seek(at)
        try:
            return read_page_header(file.read(min(length, end - at)))
        except EOFError:
            continue
        except ValueError as error:
            raise ParquetFileError(str(error)) from error
    raise ParquetFileError("the header of a page is cut off")
