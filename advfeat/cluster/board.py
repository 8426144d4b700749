"""The board on which stages, on any node of a Ray cluster, note how far they are."""

import time
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from advfeat.cluster.embedded import RAY_NAMESPACE
from advfeat.progress import Progress

_SECONDS_BETWEEN_REPORTS = 0.5
_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class StageProgress:
    """How far one running stage is, in images."""

    done: int
    total: int
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second so far."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Time left at that rate; None before the first image."""
        return (self.total - self.done) / self.rate if self.rate > 0 else None


class Board:
    """What every running stage last said; a Ray actor, one for each run."""

    def __init__(self) -> None:
        self._stages: dict[str, StageProgress] = {}

    def report(self, title: str, progress: StageProgress) -> None:
        """Note how far a stage is."""
        self._stages[title] = progress

    def snapshot(self) -> dict[str, StageProgress]:
        """Return what each stage last said, by title; one that is done is told of once."""
        told = self._stages
        self._stages = {title: stage for title, stage in told.items() if stage.done < stage.total}
        return told


def create_board(name: str) -> Any:
    """Start the board of a run beside the run's driver; it ends with the driver."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    options = {"name": name, "namespace": RAY_NAMESPACE, "num_cpus": 0, "max_restarts": -1}
    return ray.remote(Board).options(scheduling_strategy=here, **options).remote()


def read_board(board: Any) -> dict[str, StageProgress]:
    """Return what each stage last said, by title; nothing while the board cannot be reached."""
    try:
        stages: dict[str, StageProgress] = ray.get(board.snapshot.remote(), timeout=_PATIENCE_SECONDS)
    except RayError:
        return {}
    return stages


def reporter(board: str, title: str) -> Progress | None:
    """Return a function that reports a stage's progress to a board; None where there is none."""
    if not ray.is_initialized():
        return None
    try:
        actor = ray.get_actor(board, namespace=RAY_NAMESPACE)
    except ValueError:
        return None
    began, last = time.monotonic(), 0.0

    def report(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_REPORTS or done == total:
            last = now
            actor.report.remote(title, StageProgress(done, total, now - began))

    return report
