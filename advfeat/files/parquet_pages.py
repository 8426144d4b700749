"""What the pages of a Parquet file's columns decode to: no more than its footer says, but for dictionaries.

A page of values is as large as what it holds. Three things are not, and a few bytes stand for gigabytes: a
dictionary, whose values rows repeat; the encoding DELTA_BYTE_ARRAY, where values repeat the start of those
before; lists of a fixed size, which Arrow fills where they are null. The last two are refused.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from advfeat.files.page_header import PageHeader, read_page_header
from advfeat.files.parquet_file import ParquetFileError, chunks, fields_of, first_byte, is_list

_HEADER_BYTES = (1 << 14, 1 << 20)
"""How much of a page is read for its header: enough for statistics of images of 3 kB; few are longer."""

_DELTA_BYTE_ARRAY = 7
"""Parquet's number of the encoding."""

_UNUSED_VALUES = 1 << 20
"""A dictionary may hold more values than its row group has, such as names of classes: Arrow writes all."""


def check_pages(file: BinaryIO, parquet: pq.ParquetFile, columns: Collection[str] | None = None) -> int:
    """Compare what pages say of themselves with the footer, and return how large a repeated value may be.

    That is the size of the largest dictionary of byte arrays, whose values any number of rows repeat for a
    few bits each; 0 if there is none. ``columns`` are paths with dots, what lies below them is meant too; all
    if unset. Page headers alone are read. Raises ``ParquetFileError``.
    """
    repeated = defaultdict[int, int](int)
    for group, chunk, description in chunks(parquet.metadata, columns):
        _check_lists(parquet.schema_arrow, parquet.metadata.row_group(group).num_rows, chunk, description)
        pages = list(_pages(file, first_byte(chunk), chunk.total_compressed_size))
        _check_against_footer(pages, chunk, description.path)
        dictionary = sum(page.unpacked for page in pages if page.is_dictionary)
        if description.physical_type == "BYTE_ARRAY":
            if dictionary and description.max_repetition_level:
                raise ParquetFileError(f"column {description.path} has lists of a dictionary's values")
            repeated[group] += dictionary
    return max(repeated.values(), default=0)


def _check_lists(
    schema: pa.Schema, rows: int, chunk: pq.ColumnChunkMetaData, description: pq.ColumnSchema
) -> None:
    """Raise ``ParquetFileError`` for lists in records, or rows without all values of lists of one size."""
    top = description.path.partition(".")[0]
    for kind in fields_of(schema, description):
        depth, each = _lists(kind, top)
        if description.max_repetition_level > depth:
            raise ParquetFileError(f"column {description.path} has lists in records")
        if rows * each > chunk.num_values:
            raise ParquetFileError(f"column {top} has rows that do not hold {each:,} values each")


def _lists(kind: pa.DataType, column: str) -> tuple[int, int]:
    """Return how deep lists lie in lists, and how many values those of a fixed size have; 0 if none.

    Raises ``ParquetFileError`` for lists of a fixed size in such of any, which Arrow fills too, any number
    of times.
    """
    depth, each, of_any_length = 0, 1, False
    while True:
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
        if pa.types.is_fixed_size_list(kind):
            if of_any_length:
                raise ParquetFileError(f"column {column} has lists of a fixed size in lists of any")
            each *= max(1, kind.list_size)  # of lists of no values there may be many
        elif is_list(kind):
            of_any_length = True
        else:
            return depth, each if depth else 0
        depth, kind = depth + 1, kind.value_type


def _check_against_footer(pages: list[PageHeader], chunk: pq.ColumnChunkMetaData, path: str) -> None:
    if any(page.encoding == _DELTA_BYTE_ARRAY for page in pages):
        raise ParquetFileError(f"column {path} is encoded as DELTA_BYTE_ARRAY, not as PLAIN")
    unpacked = sum(page.length + page.unpacked for page in pages)
    if unpacked > chunk.total_uncompressed_size:
        raise ParquetFileError(
            f"the pages of {path} unpack to {unpacked:,} bytes, not to {chunk.total_uncompressed_size:,}"
        )
    values = sum(page.values for page in pages if not page.is_dictionary)
    if values != chunk.num_values:
        raise ParquetFileError(f"the pages of {path} hold {values:,} values, not {chunk.num_values:,}")
    for page in pages:
        unused = min(_UNUSED_VALUES, page.unpacked // 4)  # each takes four bytes or more
        if page.is_dictionary and page.values > max(values, unused):
            raise ParquetFileError(f"the dictionary of {path} has more values than there are")


def _pages(file: BinaryIO, start: int, length: int) -> Iterator[PageHeader]:
    """Yield the headers of the pages of a column chunk."""
    at, end = start, start + length
    while at < end:
        header = _page_header(file, at, end)
        at += header.length + header.packed
        if min(header.packed, header.unpacked, header.values) < 0 or at > end:
            raise ParquetFileError("a page does not lie in its column")
        yield header


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
