"""The time of a run, of which each part gets a share, and no more."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS_BETWEEN_REMINDERS = 5.0
"""Python tells of an alarm between two of its instructions, and code that is not ours may pass over it."""


class TimeIsUp(BaseException):
    """A part has used its time up; no ``except Exception`` of what it calls takes it for an error."""


class Clock:
    """Counts the seconds of a run that may take ``limit`` of them."""

    def __init__(self, limit: float) -> None:
        self._start = time.monotonic()
        self._end = self._start + limit

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end."""
        return self._end - time.monotonic()

    @contextmanager
    def share(self, seconds: float) -> Iterator["Clock"]:
        """Give a clock of so many seconds, and raise ``TimeIsUp`` within once they are over.

        To be called in the main thread; no two at once.
        """

        def ring(_: int, __: FrameType | None) -> None:
            raise TimeIsUp

        handler = signal.signal(signal.SIGALRM, ring)
        timer = signal.setitimer(signal.ITIMER_REAL, seconds, _SECONDS_BETWEEN_REMINDERS)
        try:
            yield Clock(seconds)
        finally:
            signal.setitimer(signal.ITIMER_REAL, *timer)
            signal.signal(signal.SIGALRM, handler)


def silence() -> None:
    """Let no alarm ring any more, also one that rang while another was being taken."""
    signal.setitimer(signal.ITIMER_REAL, 0)
