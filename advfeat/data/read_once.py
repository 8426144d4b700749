"""Which sources a run has read already: it plans twice, in the shell and in its flow, moments apart."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_READ: ContextVar[set[Hashable] | None] = ContextVar("sources that were read", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Let all plans within this block take for given what the first of them read of a function's images."""
    token = _READ.set(set())
    try:
        yield
    finally:
        _READ.reset(token)


def was_read(source: Hashable) -> bool:
    """Tell whether a source was read in this block; from now on it was."""
    read = _READ.get()
    if read is None:
        return False
    before = source in read
    read.add(source)
    return before
