"""The header of a Parquet page: how long the page is, packed and unpacked.

A header is a struct of Thrift's compact protocol (``PageHeader`` in Parquet's ``parquet.thrift``), of which
the second and the third field are read and the rest is passed over.
"""

from dataclasses import dataclass

_UNPACKED, _PACKED = 2, 3
_MOST_NESTING = 8
# The protocol's kinds of values.
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE = {1, 2}, 3, {4, 5, 6}, 7
_BINARY, _LISTS, _MAP, _STRUCT = 8, {9, 10}, 11, 12


@dataclass(frozen=True)
class PageHeader:
    """Bytes of the header itself, and of the page behind it, as it lies and unpacked."""

    length: int
    packed: int
    unpacked: int


def read_page_header(content: bytes) -> PageHeader:
    """Read the header at the start of ``content``.

    Raises ``EOFError`` if the content ends before it does, and ``ValueError`` if it is none.
    """
    reader = _Reader(content)
    try:
        fields = reader.struct()
        return PageHeader(reader.at, packed=fields[_PACKED], unpacked=fields[_UNPACKED])
    except IndexError:
        raise EOFError("the header of a page is cut off") from None
    except KeyError:
        raise ValueError("the header of a page lacks its sizes") from None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def struct(self, nesting: int = 0) -> dict[int, int]:
        """Read a struct and return its integer fields by number."""
        fields: dict[int, int] = {}
        number = 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = number + step if step else self._integer()
            if kind in _INTEGERS:
                fields[number] = self._integer()
            elif kind not in _BOOLEANS:  # whose value is their kind
                self._pass_over(kind, nesting)
        return fields

    def _pass_over(self, kind: int, nesting: int) -> None:
        if nesting > _MOST_NESTING:
            raise ValueError("the header of a page is nested too deeply")
        if kind in _BOOLEANS or kind == _BYTE:
            self._byte()
        elif kind in _INTEGERS:
            self._varint()
        elif kind == _DOUBLE:
            self._leap(8)
        elif kind == _BINARY:
            self._leap(self._varint())
        elif kind in _LISTS:
            size, inner = divmod(self._byte(), 16)
            for _ in range(self._varint() if size == 15 else size):
                self._pass_over(inner, nesting + 1)
        elif kind == _MAP:
            size = self._varint()
            key, value = divmod(self._byte() if size else 0, 16)
            for _ in range(size):
                self._pass_over(key, nesting + 1)
                self._pass_over(value, nesting + 1)
        elif kind == _STRUCT:
            self.struct(nesting + 1)
        else:
            raise ValueError("the header of a page is damaged")

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
