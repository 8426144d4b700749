"""The header of a Parquet page: how long the page is, packed and unpacked, how many values it holds, and how.

A header is the struct ``PageHeader`` of Parquet's ``parquet.thrift``.
"""

from dataclasses import dataclass

from advfeat.files.compact_protocol import INT32, CompactReader, Place

# Fields of a header, by the numbers of the structs that they lie in.
_KIND, _UNPACKED, _PACKED = (1,), (2,), (3,)
_DICTIONARY = 2
_COUNT_AND_ENCODING = {0: ((5, 1), (5, 2)), _DICTIONARY: ((7, 1), (7, 2)), 3: ((8, 1), (8, 4))}
"""By the kind of page: of data, of a dictionary, of data in the second version."""


@dataclass(frozen=True)
class PageHeader:
    """Bytes of the header itself, and of the page behind it, as it lies and unpacked.

    ``values`` counts the page's values and ``encoding`` is Parquet's number for how they are written.
    """

    length: int
    packed: int
    unpacked: int
    values: int
    encoding: int
    is_dictionary: bool


def read_page_header(content: bytes) -> PageHeader:
    """Read the header at the start of ``content``.

    Raises ``EOFError`` if the content ends before it does, and ``ValueError`` if it is none.
    """
    reader = _Integers(content)
    try:
        reader.read()
        count, encoding = _COUNT_AND_ENCODING[reader.found[_KIND]]
        return PageHeader(
            length=reader.at,
            packed=reader.found[_PACKED],
            unpacked=reader.found[_UNPACKED],
            values=reader.found[count],
            encoding=reader.found[encoding],
            is_dictionary=reader.found[_KIND] == _DICTIONARY,
        )
    except KeyError:
        raise ValueError("the header of a page lacks its kind, its sizes or its encoding") from None
    except ValueError as error:
        raise ValueError(f"the header of a page {error}") from None


class _Integers(CompactReader):
    """The 32-bit integers of a struct, by their places."""

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        self.found: dict[Place, int] = {}

    def value(self, place: Place, kind: int, number: int, /) -> None:
        if kind == INT32:
            self.found[place] = number
