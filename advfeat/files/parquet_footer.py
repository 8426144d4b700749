"""The footer of a Parquet file, looked at before Arrow gives it out.

Where the statistics of sizes contradict a column's type, or a column is encrypted, Arrow ends the process as
soon as the footer is asked for the column (``row_group(0).column(0)``), though reading it raises an error.
Its sizes must be known before it is read. So such footers (``FileMetaData`` of Parquet's ``parquet.thrift``)
are refused here.

Why files are not read in a process of its own instead, with limits of memory and time (tried with pyarrow 26
on two cores of a shared Linux machine; 230 lines in place of the 390 here, in ``compact_protocol``,
``page_header`` and ``parquet_pages``):

- It reads what is refused here. Of 6,000 damaged files it took 23. A page that told 999 of its 1,000 values
  gave 999 rows, and a page of an unknown kind none, both without an error.
- It refuses what is read here: 600 rows that repeat one picture of a megabyte, in a file of 1,504 bytes.
  Pieces that fit are known from the headers of pages alone.
- It is slow. A part of 64 MiB took 254 ms in place of 30 (bytes) and 368 in place of 132 (float32), 40 small
  images 3.9 in place of 1.1, with a process that is kept and tables that come back through shared memory. One
  that only approves of a file, which is then read here, took 2.3 to 3.6 times as long for a part. A new
  process for each file costs more than half a second.
- The types of other packages must be looked for all the same: tables that come back build them here.
- macOS does not enforce the limit of memory.
- It has little to catch: reading 18,000 damaged files ended no process.
"""

from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from advfeat.files.compact_protocol import BINARY, INT32, INT64, STRUCT, CompactReader, Place

_TAIL_BYTES = 1 << 16
"""How much of a file's end is fetched at first: most footers are shorter."""

_END_BYTES = 8
"""The footer's length and Parquet's mark, with which a file ends."""

_MARKS = (b"PAR1", b"PARE")
"""Of files whose footer is plain, and encrypted."""

_MOST_BYTES = 1 << 24

# Fields of the footer, by the numbers of the structs that they lie in.
_GROUP = (4, 0)
_COLUMNS = (*_GROUP, 1)
_CHUNK = (*_COLUMNS, 0)
_ENCRYPTED = {(*_CHUNK, 8), (*_CHUNK, 9)}
_COLUMN = (*_CHUNK, 3)
_BYTE_ARRAY_BYTES = (*_COLUMN, 16, 1)
_REPETITION_LEVELS, _DEFINITION_LEVELS = (*_COLUMN, 16, 2), (*_COLUMN, 16, 3)
_ELEMENTS: dict[Place, int] = {
    (2,): STRUCT,
    (4,): STRUCT,
    (5,): STRUCT,
    (7,): STRUCT,
    _COLUMNS: STRUCT,
    (*_GROUP, 4): STRUCT,
    (*_COLUMN, 2): INT32,
    (*_COLUMN, 3): BINARY,
    (*_COLUMN, 8): STRUCT,
    (*_COLUMN, 13): STRUCT,
    (*_COLUMN, 17, 2): INT32,
    _REPETITION_LEVELS: INT64,
    _DEFINITION_LEVELS: INT64,
}
"""What lists hold: readers take it for granted and pass over what is written."""


def read_footer(file: BinaryIO) -> pq.FileMetaData:
    """Read the footer of a file; raises ``ValueError``, Arrow's errors among them, and ``OSError``."""
    size = file.seek(0, 2)
    tail = _tail(file, size, _TAIL_BYTES)
    if not tail.endswith(_MARKS):
        raise ValueError("it does not end as Parquet does: it is cut off, or something else")
    length = int.from_bytes(tail[-_END_BYTES : 4 - _END_BYTES], "little")
    if length > _MOST_BYTES:
        raise ValueError(f"its footer claims {length:,} bytes, at most {_MOST_BYTES:,} are read")
    if length + _END_BYTES > len(tail):
        tail = _tail(file, size, length + _END_BYTES)
    metadata = pq.read_metadata(pa.BufferReader(tail))
    check_footer(tail[-_END_BYTES - length : -_END_BYTES], metadata.schema)
    return metadata


def check_footer(content: bytes, schema: pq.ParquetSchema) -> None:
    """Raise ``ValueError`` if Arrow must not be asked for the columns that a footer describes."""
    try:
        _Footer(content, schema).read()
    except (EOFError, ValueError) as error:
        raise ValueError(f"its footer {error}") from None


class _Footer(CompactReader):
    """Looks at each column of each row group while it passes over a footer."""

    def __init__(self, content: bytes, schema: pq.ParquetSchema) -> None:
        super().__init__(content)
        self._columns = [schema.column(number) for number in range(len(schema))]
        self._number = -1

    def value(self, place: Place, _kind: int, number: int, /) -> None:
        if place == _COLUMNS:
            self._number = -1
            if number != len(self._columns):
                raise ValueError(f"tells of {number} columns in a row group, there are {len(self._columns)}")
        elif place == _CHUNK:
            self._number += 1
            if self._number == len(self._columns):  # no list, but something else in its place
                raise ValueError("is damaged")
        elif place in _ENCRYPTED:
            raise ValueError("has encrypted columns")
        elif place == _BYTE_ARRAY_BYTES and self._column.physical_type != "BYTE_ARRAY":
            raise ValueError(f"tells the lengths of byte arrays for {self._column.path}, which has none")
        elif place == _REPETITION_LEVELS:
            self._check_levels(number, self._column.max_repetition_level)
        elif place == _DEFINITION_LEVELS:
            self._check_levels(number, self._column.max_definition_level)

    def elements(self, place: Place, kind: int, /) -> None:
        if kind != _ELEMENTS.get(place, kind):
            raise ValueError("is damaged")

    @property
    def _column(self) -> pq.ColumnSchema:
        return self._columns[self._number]

    def _check_levels(self, number: int, highest: int) -> None:
        if number not in (0, highest + 1):
            raise ValueError(f"counts {number} levels of {self._column.path}, which has {highest + 1}")


def _tail(file: BinaryIO, size: int, length: int) -> bytes:
    file.seek(max(0, size - length))
    return file.read(length)
