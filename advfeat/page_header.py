"""The header of a Parquet page: how long the page is, packed and unpacked, how many values it holds, and how.

A header is a struct of Thrift's compact protocol (``PageHeader`` in Parquet's ``parquet.thrift``), of which
a few 32-bit integers are read and the rest is passed over. What other readers would take for another number
is refused, so that they see the same header.
"""

from dataclasses import dataclass

# Fields of a header, by the numbers of the structs that they lie in.
_KIND, _UNPACKED, _PACKED = (1,), (2,), (3,)
_DICTIONARY = 2
_COUNT_AND_ENCODING = {0: ((5, 1), (5, 2)), _DICTIONARY: ((7, 1), (7, 2)), 3: ((8, 1), (8, 4))}
"""By the kind of page: of data, of a dictionary, of data in the second version."""

_MOST_NESTING = 8
# The protocol's kinds of values.
_BOOLEANS, _BYTE, _INT32, _OTHER_INTEGERS, _DOUBLE = {1, 2}, 3, 5, {4, 6}, 7
_BINARY, _LISTS, _MAP, _STRUCT = 8, {9, 10}, 11, 12

_Fields = dict[tuple[int, ...], int]


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
    reader = _Reader(content)
    try:
        fields = reader.struct()
        count, encoding = _COUNT_AND_ENCODING[fields[_KIND]]
        return PageHeader(
            length=reader.at,
            packed=fields[_PACKED],
            unpacked=fields[_UNPACKED],
            values=fields[count],
            encoding=fields[encoding],
            is_dictionary=fields[_KIND] == _DICTIONARY,
        )
    except IndexError:
        raise EOFError("the header of a page is cut off") from None
    except KeyError:
        raise ValueError("the header of a page lacks its kind, its sizes or its encoding") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def struct(self, place: tuple[int, ...] = ()) -> _Fields:
        """Read a struct that lies at a place, and return the 32-bit integers in it by theirs."""
        fields: _Fields = {}
        number = 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = _of_bits(16, number + step if step else self._integer())
            if kind not in _BOOLEANS:  # whose value is their kind
                fields |= self._value(kind, (*place, number))
        return fields

    def _value(self, kind: int, place: tuple[int, ...]) -> _Fields:
        if len(place) > _MOST_NESTING:
            raise ValueError("the header of a page is nested too deeply")
        if kind == _STRUCT:
            return self.struct(place)
        if kind == _INT32:
            return {place: _of_bits(32, self._integer())}
        if kind in _BOOLEANS or kind == _BYTE:
            self._byte()
        elif kind in _OTHER_INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self._leap(8)
        elif kind == _BINARY:
            self._leap(self._varint())
        elif kind in _LISTS:
            size, inner = divmod(self._byte(), 16)
            for _ in range(self._varint() if size == 15 else size):
                self._value(inner, (*place, 0))
        elif kind == _MAP:
            size = self._varint()
            key, value = divmod(self._byte() if size else 0, 16)
            for _ in range(size):
                self._value(key, (*place, 0))
                self._value(value, (*place, 0))
        else:
            raise ValueError("the header of a page is damaged")
        return {}

    def _byte(self) -> int:
        value = self._content[self.at]
        self.at += 1
        return value

    def _leap(self, length: int) -> None:
        self.at += length
        if self.at > len(self._content):
            raise IndexError

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("the header of a page is damaged")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)  # zigzag


def _of_bits(bits: int, value: int) -> int:
    """Return the value; raise ``ValueError`` if it has more bits, which others would cut off."""
    if not -1 << bits - 1 <= value < 1 << bits - 1:
        raise ValueError("the header of a page is damaged")
    return value
