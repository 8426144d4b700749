"""Walks a plan: every stage a Prefect task, what must be computed on Ray, the rest from cache."""

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from prefect import Task
from prefect.filesystems import RemoteFileSystem
from prefect.futures import PrefectFuture
from prefect_ray.context import remote_options

from advfeat import dataset as rows
from advfeat.errors import StageFailedError
from advfeat.plan import Outlook
from advfeat.progress import create_board
from advfeat.stage import Stage, StageKind
from advfeat.stages.dataset import shards_of
from advfeat.store import Store
from flows.display import Display
from tasks.dataset import dataset, shard
from tasks.evaluation import evaluation
from tasks.images import images
from tasks.model import source_model, target_model
from tasks.report import report
from tasks.stage_task import board_name

StageTask = Task[Any, dict[str, Any]]
StageFuture = PrefectFuture[dict[str, Any]]

TASKS: dict[StageKind, StageTask] = {
    "images": images,
    "source_model": source_model,
    "shard": shard,
    "dataset": dataset,
    "target_model": target_model,
    "evaluation": evaluation,
    "report": report,
}
_ON_ACCELERATOR: set[StageKind] = {"source_model", "shard", "target_model", "evaluation"}
_SECONDS_BETWEEN_LOOKS = 0.5


class Walk:
    """One pass over the stages of a plan, each after its inputs."""

    def __init__(self, store: Store, display: Display) -> None:
        self._store = store
        self._display = display
        self._storage = _result_storage(store)
        self._artifacts: dict[str, dict[str, Any] | StageFuture] = {}
        self._running: dict[StageFuture, Stage] = {}
        self._done: SimpleQueue[StageFuture] = SimpleQueue()
        self._failures: list[str] = []

    def run(self, outlooks: Iterable[Outlook]) -> None:
        """Bring every stage's artifact into the store.

        Raises ``StageFailedError`` once everything that could be computed has been.
        """
        board = create_board(board_name()) if ray.is_initialized() else None
        for outlook in outlooks:
            self._start(outlook)
        while self._running:
            try:
                self._finish(self._done.get(timeout=_SECONDS_BETWEEN_LOOKS))
            except Empty:
                if board is not None:
                    self._display.running(ray.get(board.snapshot.remote()))
        if self._failures:
            raise StageFailedError(
                f"{len(self._failures)} of the stages failed, first {self._failures[0]}. What was "
                "finished is kept: the same command computes only the rest"
            )

    def _start(self, outlook: Outlook) -> None:
        stage = outlook.stage
        if outlook.damage is not None:
            self._display.say(f"{stage.title}: {outlook.damage}; it is computed again")
        if outlook.state == "cached":
            # Called in place: a cached stage never waits for a core or a GPU.
            self._artifacts[stage.digest] = self._task(stage)(stage, self._store.uri, [])
            self._display.finished(stage.title, "cached")
        elif stage.kind == "images":
            self._artifacts[stage.digest] = self._task(stage, refresh=True)(stage, self._store.uri, [])
            self._display.finished(stage.title, "computed")
        else:
            inputs = [self._artifacts[digest] for digest in stage.inputs.values()]
            self._artifacts[stage.digest] = self._submit(stage, inputs + self._shards(stage, inputs))

    def _shards(self, stage: Stage, inputs: list[Any]) -> list[StageFuture]:
        if stage.kind != "dataset":
            return []
        train_size = self._artifacts[stage.inputs["images"]]["metrics"]["train_size"]  # type: ignore[index]
        shards = shards_of(stage, train_size)
        intact = self._store.states([part.digest for part in shards])
        return [
            self._submit(part, inputs, refresh=intact[part.digest][0] is None) for part in shards
        ]

    def _submit(self, stage: Stage, after: list[Any], refresh: bool = True) -> StageFuture:
        with remote_options(**_resources(stage)):
            future = self._task(stage, refresh).submit(stage, self._store.uri, after)
        self._running[future] = stage
        future.add_done_callback(self._done.put)
        return future

    def _finish(self, future: StageFuture) -> None:
        stage = self._running.pop(future)
        future.wait()
        state = future.state
        if state.is_completed():
            if stage.kind != "shard":
                self._display.finished(stage.title, "computed")
        elif state.name == "NotReady":
            self._display.say(f"{stage.title}: not started, an earlier stage failed")
        else:
            problem = f"{stage.title}: {(state.message or 'failed').splitlines()[0]}"
            self._failures.append(problem)
            self._display.say(f"failed {problem}")

    def _task(self, stage: Stage, refresh: bool = False) -> StageTask:
        # A stage that is not intact in the store must not be answered from Prefect's record of it.
        return TASKS[stage.kind].with_options(result_storage=self._storage, refresh_cache=refresh)


def _resources(stage: Stage) -> dict[str, float]:
    """Declare the cores and GPUs that a stage's computation takes on a Ray node."""
    training = stage.parameters.get("training")
    resources: dict[str, float] = {"num_cpus": rows.THREADS if training is None else training["threads"]}
    if stage.kind in _ON_ACCELERATOR and ray.is_initialized() and ray.cluster_resources().get("GPU"):
        resources["num_gpus"] = 1
    return resources


def _result_storage(store: Store) -> Path | str:
    """Return where Prefect keeps its cache records: in the store, as a path or a saved block."""
    if store.is_local:
        return Path(store.root) / "cache"
    name = f"advfeat-{sha256(store.uri.encode()).hexdigest()[:16]}"
    RemoteFileSystem(basepath=f"{store.uri}/cache").save(name, overwrite=True)
    return f"remote-file-system/{name}"
