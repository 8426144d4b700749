"""What a run has read and laid out already: it plans twice, in the shell and in its flow, moments apart."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

Result = TypeVar("Result")

_READ: ContextVar[set[Hashable] | None] = ContextVar("sources that were read", default=None)
_KEPT: ContextVar[dict[Hashable, Any] | None] = ContextVar("what was computed", default=None)


@contextmanager
def read_once() -> Iterator[None]:
    """Let all plans within this block take for given what the first of them read of a function's images."""
    read, kept = _READ.set(set()), _KEPT.set({})
    try:
        yield
    finally:
        _READ.reset(read)
        _KEPT.reset(kept)


def was_read(source: Hashable) -> bool:
    """Tell whether a source was read in this block; from now on it was."""
    read = _READ.get()
    if read is None:
        return False
    before = source in read
    read.add(source)
    return before


def once(key: Hashable, compute: Callable[[], Result]) -> Result:
    """Return what was computed in this block under this key, else compute it; outside it always is."""
    kept = _KEPT.get()
    if kept is None:
        return compute()
    if key not in kept:
        kept[key] = compute()
    result: Result = kept[key]
    return result
