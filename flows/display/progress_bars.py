"""Bars in Prefect's user interface: how far a grid is, and each stage of it that lasts.

Keys are stable, so that the interface keeps the history of each.
"""

import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from uuid import UUID

import httpx
from prefect.artifacts import create_progress_artifact, update_progress_artifact

from advfeat.cluster.board import StageProgress
from advfeat.flows.display.artifacts import artifact_key
from advfeat.storage import Stage

_SECONDS_BETWEEN_UPDATES = 2.0
_LONG_SECONDS = 20.0
_MOST_LONG_STAGES = 16
"""Stages with a bar at a time: each costs the server a request every two seconds."""


class GridProgress:
    """The share of a grid's stages that are finished, as an artifact of the flow run."""

    def __init__(self, recipe: str, extent: str, total: int) -> None:
        self._total, self._finished = max(1, total), 0
        self._last = time.monotonic()
        self._artifact = _progress_bar(artifact_key(recipe, "progress"), extent)

    def finished(self, stage: Stage, how: str) -> None:
        """Note that a stage is in the store."""
        self._finished += 1
        if self._finished == self._total or time.monotonic() - self._last >= _SECONDS_BETWEEN_UPDATES:
            self._show(f"last: {stage.title} ({how})")

    def passed_over(self, count: int) -> None:
        """Note that so many stages were in the store already."""
        self._finished += count
        self._show(f"{count:,} stages were in the store already")

    def _show(self, description: str) -> None:
        self._last = time.monotonic()
        share = 100.0 * self._finished / self._total
        with _server_may_be_away():
            update_progress_artifact(self._artifact, progress=share, description=description)

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Stages that run do not count."""


class LongStages:
    """How far each stage is that has run for a while, as an artifact of its own."""

    def __init__(self) -> None:
        self._artifacts: dict[str, UUID] = {}
        self._ended: set[str] = set()
        self._last = time.monotonic()

    def finished(self, stage: Stage, how: str) -> None:
        """Fill the bar of a finished stage."""
        self._ended.add(stage.title)
        if (artifact := self._artifacts.pop(stage.title, None)) is not None:
            with _server_may_be_away():
                update_progress_artifact(artifact, progress=100.0, description=f"{stage.title}: {how}")

    def passed_over(self, count: int) -> None:
        """Stages that were there already have no bar."""

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Show the stages that have run longest, now and then."""
        now = time.monotonic()
        if now - self._last < _SECONDS_BETWEEN_UPDATES:
            return
        self._last = now
        long = [
            (title, stage)
            for title, stage in stages.items()
            if stage.seconds >= _LONG_SECONDS and stage.done < stage.total and title not in self._ended
        ]
        with _server_may_be_away():
            for title, stage in sorted(long, key=lambda entry: -entry[1].seconds)[:_MOST_LONG_STAGES]:
                self._show(title, stage)

    def _show(self, title: str, stage: StageProgress) -> None:
        if title not in self._artifacts:
            self._artifacts[title] = _progress_bar(artifact_key(title, "progress"), title)
        left = "" if stage.seconds_left is None else f", about {stage.seconds_left:.0f} s left"
        update_progress_artifact(
            self._artifacts[title],
            progress=100.0 * stage.done / stage.total,
            description=f"{title}: {stage.done:,} of {stage.total:,} images{left}",
        )


def _server_may_be_away() -> AbstractContextManager[None]:
    """Let a bar stand still while the server does not answer: the run goes on."""
    return suppress(httpx.HTTPError, OSError)


def _progress_bar(key: str, description: str) -> UUID:
    created = create_progress_artifact(progress=0.0, key=key, description=description)
    assert isinstance(created, UUID)
    return created
