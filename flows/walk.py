"""Walks a plan: every stage a Prefect task, what must be computed on Ray, the rest from cache."""

from collections.abc import Iterable
from functools import cached_property
from graphlib import TopologicalSorter
from hashlib import sha256
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import ray
from prefect import Task
from prefect.client.schemas.objects import State
from prefect.filesystems import RemoteFileSystem
from prefect.futures import PrefectFuture
from prefect_ray.context import remote_options

from advfeat.board import create_board
from advfeat.errors import AdvfeatError, StageFailedError
from advfeat.plan import Outlook
from advfeat.stage import Stage, StageKind
from advfeat.store import Store
from flows.display import Display
from tasks.dataset import dataset, shard
from tasks.evaluation import evaluation
from tasks.images import images
from tasks.model import source_model, target_model
from tasks.report import report
from tasks.stage_task import board_name

StageTask = Task[Any, dict[str, Any]]
StageState = State[dict[str, Any]]
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
    """One pass over the stages of a plan, each after what it needs.

    A stage is submitted to Ray when all it needs is there, so that no worker and no core waits for
    another stage.
    """

    def __init__(self, store: Store, display: Display) -> None:
        self._store = store
        self._display = display
        self._storage = _result_storage(store)
        self._states: dict[str, StageState] = {}
        self._running: dict[StageFuture, Stage] = {}
        self._done: SimpleQueue[StageFuture] = SimpleQueue()
        self._failures: list[str] = []

    def run(self, outlooks: Iterable[Outlook]) -> None:
        """Bring every stage's artifact into the store.

        Raises ``StageFailedError`` once everything that could be computed has been.
        """
        entries = {entry.stage.digest: entry for entry in outlooks}
        order = TopologicalSorter(
            {digest: _needs(entry) & entries.keys() for digest, entry in entries.items()}
        )
        order.prepare()
        while order.is_active():
            ready = order.get_ready()
            order.done(*(digest for digest in ready if self._start(entries[digest])))
            if not ready:
                if not self._running:
                    break  # what is left needs a stage that failed
                order.done(*self._finished())
        if self._failures:
            left = sum(digest not in self._states for digest in entries) - len(self._failures)
            raise StageFailedError(
                f"{len(self._failures)} of {len(entries)} stages failed and {left} that need them were "
                "not started; what was finished is kept, the same command computes only the rest. "
                f"First failure: {self._failures[0]}"
            )

    def _start(self, entry: Outlook) -> bool:
        """Start a stage; return whether it is finished at once."""
        stage = entry.stage
        if entry.loss is not None:
            self._display.say(f"{stage.title}: {entry.loss}; it is computed again")
        if entry.state == "compute" and stage.kind != "images":
            self._submit(stage)
            return False
        # In place: a cached stage never waits for a core or a GPU, and the flow sees the user's images.
        self._call(stage, refresh=entry.state == "compute")
        self._display.finished(stage, "cached" if entry.state == "cached" else "computed")
        return True

    def _call(self, stage: Stage, refresh: bool) -> None:
        state: StageState = self._task(stage, refresh)(stage, self._store.uri, [], return_state=True)  # type: ignore[assignment]
        state.result()
        self._states[stage.digest] = state

    def _submit(self, stage: Stage) -> None:
        after = [self._states[digest] for digest in stage.needs]
        _ = self._board  # there before the stage looks for it
        with remote_options(**_resources(stage)):
            future = self._task(stage, refresh=True).submit(stage, self._store.uri, after)
        self._running[future] = stage
        future.add_done_callback(self._done.put)

    def _finished(self) -> list[str]:
        """Wait for a running stage to end; return its digest if it is in the store now."""
        future = self._next_done()
        stage = self._running.pop(future)
        future.wait()
        if future.state.is_completed():
            self._states[stage.digest] = future.state
            self._display.finished(stage, "computed")
            return [stage.digest]
        problem = f"{stage.title}: {_reason(future.state)}"
        self._failures.append(problem)
        self._display.say(f"failed: {problem}")
        return []

    def _next_done(self) -> StageFuture:
        while True:
            try:
                return self._done.get(timeout=_SECONDS_BETWEEN_LOOKS)
            except Empty:
                self._display.running(ray.get(self._board.snapshot.remote()))

    @cached_property
    def _board(self) -> Any:
        return create_board(board_name())

    def _task(self, stage: Stage, refresh: bool) -> StageTask:
        # A stage that is not intact in the store must not be answered from Prefect's record of it.
        return TASKS[stage.kind].with_options(result_storage=self._storage, refresh_cache=refresh)


def _reason(state: StageState) -> str:
    error = state.result(raise_on_failure=False)
    reason = str(error) if isinstance(error, AdvfeatError) else state.message
    return (reason or state.name or "failed").splitlines()[0]


def _needs(entry: Outlook) -> set[str]:
    return set() if entry.state == "cached" else set(entry.stage.needs)


def _resources(stage: Stage) -> dict[str, float]:
    """Declare the cores and GPUs that a stage's computation takes on a Ray node."""
    resources: dict[str, float] = {"num_cpus": stage.threads}
    if stage.kind in _ON_ACCELERATOR and ray.cluster_resources().get("GPU"):
        resources["num_gpus"] = 1
    return resources


def _result_storage(store: Store) -> Path | str:
    """Return where Prefect keeps its cache records: in the store, as a path or a saved block."""
    if store.is_local:
        return Path(store.cache)
    name = f"advfeat-{sha256(store.uri.encode()).hexdigest()[:16]}"
    RemoteFileSystem(basepath=store.fs.unstrip_protocol(store.cache)).save(name, overwrite=True)
    return f"remote-file-system/{name}"
