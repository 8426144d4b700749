"""Structs of Thrift's compact protocol, in which Parquet writes its footer and the headers of its pages.

A reader passes over a whole struct and tells of every value in it; who wants to know something overrides
``value`` or ``elements``. What other readers would take for another number is refused, so that they see the
same.
"""

Place = tuple[int, ...]
"""Where a value lies: the numbers of fields from the outermost struct inwards; 0 for a list's elements."""

BOOLEANS, BYTE, INT32, OTHER_INTEGERS, DOUBLE = {1, 2}, 3, 5, {4, 6}, 7
BINARY, LISTS, MAP, STRUCT = 8, {9, 10}, 11, 12
INT64 = 6
"""The protocol's kinds of values."""

_MOST_NESTING = 8


class CompactReader:
    """Reads the struct at the start of ``content``.

    Reading raises ``EOFError`` if the content ends before the struct does, and ``ValueError`` if it is none.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self.at = 0

    def value(self, place: Place, kind: int, number: int, /) -> None:
        """Take note of a value: an integer's number, or how many bytes or elements it has; else 0."""

    def elements(self, place: Place, kind: int, /) -> None:
        """Take note of the kind of a list's elements."""

    def read(self) -> None:
        """Pass over the struct; ``at`` is where it ends."""
        try:
            self._struct(())
        except IndexError:
            raise EOFError("is cut off") from None

    def _struct(self, place: Place) -> None:
        number = 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = _of_bits(16, number + step if step else self._integer())
            if kind in BOOLEANS:  # whose value is their kind
                self.value((*place, number), kind, 0)
            else:
                self._value(kind, (*place, number))

    def _value(self, kind: int, place: Place) -> None:
        if len(place) > _MOST_NESTING:
            raise ValueError("is nested too deeply")
        if kind == STRUCT:
            self.value(place, kind, 0)
            self._struct(place)
        elif kind == INT32:
            self.value(place, kind, _of_bits(32, self._integer()))
        elif kind in OTHER_INTEGERS:
            self.value(place, kind, self._integer())
        elif kind in BOOLEANS or kind == BYTE:
            self.value(place, kind, self._byte())
        elif kind == DOUBLE:
            self._leap(8)
            self.value(place, kind, 0)
        elif kind == BINARY:
            length = self._varint()
            self._leap(length)
            self.value(place, kind, length)
        elif kind in LISTS:
            size, inner = divmod(self._byte(), 16)
            size = self._varint() if size == 15 else size
            self.value(place, kind, size)
            self.elements(place, inner)
            for _ in range(size):
                self._value(inner, (*place, 0))
        elif kind == MAP:
            size = self._varint()
            key, value = divmod(self._byte() if size else 0, 16)
            self.value(place, kind, size)
            for _ in range(size):
                self._value(key, (*place, 0))
                self._value(value, (*place, 0))
        else:
            raise ValueError("is damaged")

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
        raise ValueError("is damaged")

    def _integer(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)  # zigzag


def _of_bits(bits: int, value: int) -> int:
    """Return the value; raise ``ValueError`` if it has more bits, which others would cut off."""
    if not -1 << bits - 1 <= value < 1 << bits - 1:
        raise ValueError("is damaged")
    return value
