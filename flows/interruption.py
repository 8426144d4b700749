"""Ctrl-C and SIGTERM: they end a run even where a library swallows the exception that they raise."""

import contextlib
import os
import signal

_seen: set[int] = set()
_pipe: list[int] = []


def listen() -> None:
    """Note every signal from now on, also those that a library handles."""
    if not _pipe:
        _pipe.extend(os.pipe())
        for end in _pipe:
            os.set_blocking(end, False)
    signal.set_wakeup_fd(_pipe[1], warn_on_full_buffer=False)


def came() -> bool:
    """Return whether the process was asked to end since ``listen``."""
    if _pipe:
        with contextlib.suppress(BlockingIOError):
            _seen.update(os.read(_pipe[0], 4096))
    return bool(_seen & {signal.SIGINT, signal.SIGTERM})
