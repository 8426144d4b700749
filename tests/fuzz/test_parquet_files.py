"""Footers and page headers of Parquet that lie: refused before Arrow, which they could end, is asked."""

import base64
import contextlib
import io
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest
from hypothesis import given
from hypothesis import strategies as st

from advfeat.files.compact_protocol import CompactReader, Place
from advfeat.files.page_header import read_page_header
from advfeat.files.parquet_file import ParquetFileError, open_parquet, row_bytes
from advfeat.files.parquet_footer import check_footer
from advfeat.files.parquet_pages import check_pages
from tests.fuzz.mutation import damaged_bytes
from tests.fuzz.settings import fuzz

COLUMNS = (4, 0, 1)
SIZES = (*COLUMNS, 0, 3, 16)
DEFINITION_LEVELS = (*SIZES, 3)


def file_of_rows(columns: Sequence[str]) -> bytes:
    table = pa.table({"text": ["a", None], "number": [1, None], "list": [[1, 2], [3]]})
    written = io.BytesIO()
    pq.write_table(table.select(columns), written)
    return written.getvalue()


ROWS = file_of_rows(["text", "number", "list"])
FOOTER = ROWS[-8 - int.from_bytes(ROWS[-8:-4], "little") : -8]


def with_footer(footer: bytes) -> bytes:
    return ROWS[: -8 - len(FOOTER)] + footer + len(footer).to_bytes(4, "little") + b"PAR1"


class Places(CompactReader):
    """Where in a footer the values of each place end, or begin where they hold others."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.found: dict[Place, list[int]] = {}
        self.read()

    def value(self, place: Place, _kind: int, _number: int, /) -> None:
        self.found.setdefault(place, []).append(self.at)


def refusal(content: bytes) -> str:
    with pytest.raises(ParquetFileError) as refused:
        open_parquet(io.BytesIO(content))
    return str(refused.value)


def test_counts_of_levels_that_a_column_does_not_have_are_refused() -> None:
    """Arrow throws where nobody can catch it."""
    at = Places(FOOTER).found[DEFINITION_LEVELS][1]
    assert FOOTER[at - 1] == 0x26  # two integers, each in a byte
    one_of_two_bytes = bytes([0x16, FOOTER[at] | 128, FOOTER[at + 1]])
    changed = FOOTER[: at - 1] + one_of_two_bytes + FOOTER[at + 2 :]
    assert refusal(with_footer(changed)) == "its footer counts 1 levels of number, which has 2"


def test_lengths_of_byte_arrays_are_told_of_byte_arrays_alone() -> None:
    """The statistics of sizes of a text, put in place of those of the number behind it."""
    places = Places(FOOTER).found
    begins, ends = places[SIZES], places[(*DEFINITION_LEVELS, 0)][1::2]
    of_text, of_number = FOOTER[begins[0] : ends[0]], slice(begins[1], ends[1])
    changed = FOOTER[: of_number.start] + of_text + FOOTER[of_number.stop :]
    told = refusal(with_footer(changed))
    assert told == "its footer tells the lengths of byte arrays for number, which has none"


def test_a_list_of_something_else_is_refused() -> None:
    """Others read its elements as what they should be, and so another footer."""
    at = Places(FOOTER).found[DEFINITION_LEVELS][0]
    assert "is damaged" in refusal(with_footer(FOOTER[: at - 1] + b"\x23" + FOOTER[at:]))


def test_groups_of_other_columns_than_there_are_are_refused() -> None:
    fewer = pq.ParquetFile(io.BytesIO(file_of_rows(["text"]))).schema
    with pytest.raises(ValueError, match="its footer tells of 3 columns in a row group, there are 1"):
        check_footer(FOOTER, fewer)


def field(number: int, kind: int, content: bytes) -> bytes:
    return bytes([kind, 2 * number]) + content


def columns(*each: bytes) -> bytes:
    """Write a row group's field of columns."""
    return field(1, 9, bytes([len(each) << 4 | 12]) + b"".join(each))


COLUMN = field(3, 12, b"\0") + b"\0"
WITH_LENGTHS = field(3, 12, field(16, 12, field(1, 6, b"\x0a") + b"\0") + b"\0") + b"\0"
"""A column whose statistics of sizes tell the lengths of its byte arrays."""


@pytest.mark.parametrize(
    "told",
    [
        columns(WITH_LENGTHS),
        columns(COLUMN) + columns(WITH_LENGTHS),
        field(1, 12, field(0, 12, b"\0") + b"\0") + columns(WITH_LENGTHS),
    ],
    ids=["once", "twice", "after something else"],
)
def test_columns_are_looked_at_however_often_they_are_told(told: bytes) -> None:
    """Arrow takes the last list, and passes over what is not a list."""
    groups = field(4, 9, bytes([1 << 4 | 12]) + told + b"\0") + b"\0"
    schema = pq.ParquetFile(io.BytesIO(file_of_rows(["number"]))).schema
    with pytest.raises(ValueError, match="its footer tells"):
        check_footer(groups, schema)


def test_footers_of_unlikely_length_are_not_fetched() -> None:
    long = b"PAR1" + (1 << 30).to_bytes(4, "little") + b"PAR1"
    assert "1,073,741,824 bytes" in refusal(long)


class Keys(pe.KmsClient):  # type: ignore[misc]
    def __init__(self, _: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _: str) -> bytes:
        return base64.b64encode(key)


def test_encrypted_columns_are_refused() -> None:
    """Their footer can be read, asked for one of them Arrow throws where nobody can catch it."""
    settings = pe.EncryptionConfiguration(footer_key="a", column_keys={"b": ["x"]}, plaintext_footer=True)
    factory = pe.CryptoFactory(Keys)
    table = pa.table({"x": [1, 2], "y": [3, 4]})
    written = io.BytesIO()
    properties = factory.file_encryption_properties(pe.KmsConnectionConfig(), settings)
    with pq.ParquetWriter(written, table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    assert refusal(written.getvalue()) == "its footer has encrypted columns"


def pages_of(column: pa.Array, stored: pa.DataType | None = None) -> int:
    """Write a column, whose schema may tell of another type, and check its pages."""
    written = io.BytesIO()
    schema, most = pa.schema({"x": column.type}), 1 << 30
    with pq.ParquetWriter(written, schema, store_schema=False, dictionary_pagesize_limit=most) as writer:
        told = pa.schema({"x": stored or column.type}).serialize().to_pybytes()
        writer.add_key_value_metadata({"ARROW:schema": base64.b64encode(told).decode()})
        writer.write_table(pa.table({"x": column}))
    parquet = open_parquet(written)
    check_pages(written, parquet)
    return row_bytes(parquet, {"x"})


@pytest.mark.parametrize(
    ("stored", "problem"),
    [
        (pa.list_(pa.list_(pa.int64(), 0), 1 << 20), "do not hold 1,048,576 values each"),
        (pa.list_(pa.list_(pa.int64(), 1 << 20), 0), "do not hold 1,048,576 values each"),
        (pa.list_(pa.list_(pa.int64(), 1 << 10), 1 << 10), "do not hold 1,048,576 values each"),
        (pa.list_(pa.list_(pa.int64()), 1 << 20), "do not hold 1,048,576 values each"),
        (pa.list_(pa.list_(pa.int64(), 2)), "has lists of a fixed size in lists of any"),
    ],
    ids=str,
)
def test_lists_of_a_fixed_size_that_arrow_would_fill_are_refused(stored: pa.DataType, problem: str) -> None:
    """Each of these rows takes a few bits."""
    with pytest.raises(ParquetFileError, match=problem):
        pages_of(pa.array([None] * 4, pa.list_(pa.list_(pa.int64()))), stored)


@pytest.mark.parametrize("wrapped", [pa.list_, pa.large_list, pa.list_view, pa.large_list_view])
@pytest.mark.parametrize("depth", [2, 3, 7])
def test_lists_in_lists_count_with_the_memory_that_they_take(
    wrapped: Callable[[pa.DataType], pa.DataType], depth: int
) -> None:
    """Empty ones are but the places where they begin, and a few bytes of a file stand for any number."""
    kind = pa.uint8()
    for _ in range(depth):
        kind = wrapped(kind)
    value: list[Any] = []
    for _ in range(depth - 2):
        value = [value]
    column = pa.array([[value] * 100_000], kind)
    assert pages_of(column) >= column.nbytes


def test_a_dictionary_may_hold_more_than_its_group_uses_but_not_any_number() -> None:
    names = pa.array([f"class {number}" for number in range(100)])
    pages_of(pa.DictionaryArray.from_arrays(pa.array([3, 7]), names))
    many = pa.array(range((1 << 20) + 1)).cast(pa.string())
    with pytest.raises(ParquetFileError, match="has more values than there are"):
        pages_of(pa.DictionaryArray.from_arrays(pa.array([3, 7]), many))


@fuzz
@given(damaged_bytes([FOOTER]) | st.binary(max_size=60))
def test_footers(content: bytes) -> None:
    """What is not refused Arrow tells of: an abort would end this process."""
    file = io.BytesIO(with_footer(content))
    with contextlib.suppress(ParquetFileError, OSError):
        check_pages(file, open_parquet(file))


PAGE_HEADERS = [
    bytes.fromhex(content) + bytes(20)
    for content in (
        "15001580fa01158c2c2c15d00f1500150615060000",
        "15041580fa01158c2c4c15d00f15000000",
        "15061580fa01158c2c5c15d00f150015d00f1500150015000000",
    )
]


def test_page_headers_of_each_kind() -> None:
    read = [read_page_header(content) for content in PAGE_HEADERS]
    assert [header.length for header in read] == [len(content) - 20 for content in PAGE_HEADERS]
    assert {(header.packed, header.unpacked, header.values, header.encoding) for header in read} == {
        (2822, 16000, 1000, 0)
    }
    assert [header.is_dictionary for header in read] == [False, True, False]


@pytest.mark.parametrize("field", ["0584800820", "05048080808020"])
def test_numbers_of_pages_that_others_would_cut_to_another_are_refused(field: str) -> None:
    """The field 65538 is 2 in 16 bits, and its value 1 << 33 is 0 in 32: Parquet's own readers cut them."""
    with pytest.raises(ValueError, match="damaged"):
        read_page_header(bytes.fromhex(field) + PAGE_HEADERS[0])


def test_numbers_of_pages_of_another_size_do_not_count() -> None:
    """The same field with 64 bits, which Parquet's own readers pass over."""
    header = PAGE_HEADERS[0][:-21] + bytes.fromhex("06040200")
    assert read_page_header(header).unpacked == 16000


@fuzz
@given(damaged_bytes(PAGE_HEADERS) | st.binary(max_size=60))
def test_page_headers(content: bytes) -> None:
    try:
        header = read_page_header(content)
    except (EOFError, ValueError):
        return
    assert 0 < header.length <= len(content)
