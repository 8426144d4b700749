"""Stages that are tried again later, as their task broke outside its own code."""

import time
from collections import Counter

_SECONDS_BEFORE = (5.0, 10.0, 20.0, 40.0)
"""Long enough for a Prefect server that is started again."""


class NewTries:
    """Which stages wait for a new try; each gets a few, further and further apart."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._tries: Counter[str] = Counter()

    def __bool__(self) -> bool:
        """Tell whether any stage waits."""
        return bool(self._due)

    def grant(self, digest: str) -> float | None:
        """Grant a stage a new try; return the seconds until then, None if it had its share."""
        tries = self._tries[digest]
        if tries >= len(_SECONDS_BEFORE):
            return None
        self._tries[digest] += 1
        self._due[digest] = time.monotonic() + _SECONDS_BEFORE[tries]
        return _SECONDS_BEFORE[tries]

    def take_due(self) -> list[str]:
        """Return the stages whose time has come; they wait no longer."""
        now = time.monotonic()
        due = [digest for digest, when in self._due.items() if when <= now]
        for digest in due:
            del self._due[digest]
        return due
