"""How much larger than a packed file its content may be, for memory to be taken for it."""

_ALWAYS_BELIEVED_BYTES = 256 << 20
_MOST_EXPANSION = 200
"""Times the file's size: images reach about 40, a file of zeros 10,000."""


def believed_bytes(packed: int) -> int:
    """Return how many unpacked bytes are believed of a file of so many."""
    return _ALWAYS_BELIEVED_BYTES + _MOST_EXPANSION * packed
