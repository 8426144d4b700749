"""Inputs that a stage found damaged, and the stages that wait until they are computed again."""

from collections.abc import Iterable


class Repairs:
    """Which damaged artifacts are computed again, and who needs them."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[str]] = {}

    def begin(self, digest: str, damaged: Iterable[str]) -> list[str]:
        """Let a stage wait for its damaged inputs; return those that nobody repairs yet."""
        damaged = set(damaged)
        known = set().union(*self._waiting.values())
        self._waiting[digest] = damaged
        return sorted(damaged - known)

    def end(self, part: str) -> list[str]:
        """Note that an artifact is whole again; return the stages that waited for it alone."""
        freed = []
        for digest, damaged in list(self._waiting.items()):
            damaged.discard(part)
            if not damaged:
                del self._waiting[digest]
                freed.append(digest)
        return freed
