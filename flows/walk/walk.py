"""Walks a plan: every stage a Prefect task, what must be computed on Ray, the rest from cache."""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from graphlib import TopologicalSorter
from queue import Empty, SimpleQueue
from typing import Any, Protocol

import httpx
import ray
from prefect import Task, get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.exceptions import ObjectNotFound
from prefect.futures import PrefectFuture
from prefect.runtime import flow_run
from prefect.states import Cancelled
from prefect_ray.context import remote_options
from ray.exceptions import RayError, RayTaskError

from advfeat.cluster.board import StageProgress, create_board, read_board
from advfeat.cluster.causes import cause, is_lasting
from advfeat.cluster.metrics import count_failure, count_stage
from advfeat.errors import (
    AdvfeatError,
    DamagedArtifactError,
    MissingArtifactError,
    RunCancelledError,
    StageFailedError,
)
from advfeat.flows.display.terminal import Display
from advfeat.flows.walk.cancelling import is_cancelled
from advfeat.flows.walk.claims import Claims
from advfeat.flows.walk.constant_settings import constant_settings
from advfeat.flows.walk.new_tries import NewTries
from advfeat.flows.walk.patience import patiently
from advfeat.flows.walk.repairs import Repairs
from advfeat.flows.walk.resources import cores, resources, shortage
from advfeat.planning import Outlook
from advfeat.storage import Stage, StageKind, Store
from advfeat.tasks.cache_records import cache_records
from advfeat.tasks.dataset import dataset, shard
from advfeat.tasks.evaluation import evaluation, leakage, two_dimensional
from advfeat.tasks.images import images
from advfeat.tasks.model import pretrained_model, source_model, target_model, weights
from advfeat.tasks.report import grid_report, report
from advfeat.tasks.stage_task import board_name

StageTask = Task[Any, dict[str, Any]]
StageState = State[dict[str, Any]]
StageFuture = PrefectFuture[dict[str, Any]]

TASKS: dict[StageKind, StageTask] = {
    "images": images,
    "source_model": source_model,
    "weights": weights,
    "pretrained_model": pretrained_model,
    "shard": shard,
    "dataset": dataset,
    "target_model": target_model,
    "evaluation": evaluation,
    "leakage": leakage,
    "two_dimensional": two_dimensional,
    "report": report,
    "grid_report": grid_report,
}
_CLAIMED: set[StageKind] = {"source_model", "shard", "dataset", "target_model"}
"""Stages whose computation is worth asking whether another run is at it."""

_TESTED: set[StageKind] = {"pretrained_model", "evaluation"}
"""Stages that find out how many test images a network gets right."""

# Each is a function of its own to Ray, whose scheduler looks at all of them whenever one ends: of 3,000 that
# compute nothing it lets one through in 4 s.
_MOST_WAITING_ON_RAY = 200

# Each is a request of some ten milliseconds to the server, before the first stage is computed.
_MOST_CACHED_SHOWN = 500

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_BETWEEN_INQUIRIES = 3.0


class Watcher(Protocol):
    """Who is told how a walk goes on."""

    def finished(self, stage: Stage, how: str) -> None:
        """Note that a stage is in the store: cached, computed, or computed by another run."""

    def passed_over(self, count: int) -> None:
        """Note that so many stages were in the store already, too many to tell of each."""

    def running(self, stages: Mapping[str, StageProgress]) -> None:
        """Note how far the running stages are, by title."""


class Walk:
    """One pass over the stages of a plan, each after what it needs.

    Cached stages are task runs too, which Prefect draws, unless there are too many to look at. A stage is
    submitted to Ray when all it needs is there, so that no worker and no core waits for
    another stage. What another run computes at the same time is waited for instead.
    """

    def __init__(
        self,
        store: Store,
        display: Display,
        *,
        watchers: Iterable[Watcher] = (),
        timeout_seconds: float | None = None,
        at_once: int | None = None,
        gpus_per_stage: float | None = None,
    ) -> None:
        self._store = store
        self._display = display
        self._timeout_seconds = timeout_seconds
        self._at_once = at_once
        self._gpus_per_stage = gpus_per_stage
        self._watchers: tuple[Watcher, ...] = (display, *watchers)
        self._records = cache_records(store)
        self._states: dict[str, StageState] = {}
        self._running: dict[StageFuture, Stage] = {}
        self._elsewhere: dict[str, Stage] = {}
        self._new_tries = NewTries()
        self._repairs = Repairs()
        self._entries: dict[str, Outlook] = {}
        self._claim_of: dict[str, str] = {}
        self._made_meanwhile: dict[str, bool] = {}
        self._claims: Claims
        self._done: SimpleQueue[StageFuture] = SimpleQueue()
        self._last_inquiry = time.monotonic()
        self._failures: list[str] = []
        self.in_store: set[str] = set()
        """Digests of the stages whose artifacts are known to be there."""
        self.computed = 0
        """How many stages were computed so far, in all runs."""

    def run(self, outlooks: Iterable[Outlook]) -> None:
        """Bring every stage's artifact into the store; once more for stages that need those of before.

        Raises ``StageFailedError`` once everything that could be computed has been, and
        ``RunCancelledError`` as soon as the run was cancelled in Prefect; its work on Ray ends then.
        """
        entries = {entry.stage.digest: entry for entry in outlooks}
        if ray.is_initialized():
            job = ray.get_runtime_context().get_job_id()
            get_run_logger().info("run %s is job %s of Ray", flow_run.get_id(), job)
        self._entries = entries
        self._claim_of = {part: stage.digest for stage in _stages(entries) for part in stage.parts}
        self._failures = []
        with constant_settings(), Claims() as self._claims:
            try:
                self._walk(entries)
            except BaseException:
                self._give_up()
                raise

    def _give_up(self) -> None:
        """End what runs on Ray, whose processes are ended before they could tell Prefect of it."""
        for future in self._running:
            ray.cancel(future.wrapped_future, force=True)  # type: ignore[attr-defined]
        with suppress(httpx.HTTPError, OSError), get_client(sync_client=True) as client:
            for future in self._running:
                with suppress(ObjectNotFound):  # it has not begun
                    client.set_task_run_state(future.task_run_id, Cancelled(), force=True)

    def _walk(self, entries: dict[str, Outlook]) -> None:
        left_out = self._pass_over(entries)
        to_walk = entries.keys() - left_out
        order = TopologicalSorter(
            {digest: _needs(entry) & to_walk for digest, entry in entries.items() if digest in to_walk}
        )
        order.prepare()
        ready: deque[str] = deque()
        while order.is_active():
            order.done(*self._found_by_inquiry())
            ready.extend(order.get_ready())
            if ready and (self._has_room() or entries[ready[0]].state == "cached"):
                digest = ready.popleft()
                if self._start(entries[digest]):
                    order.done(digest)
            elif self._running or self._elsewhere or self._new_tries:
                order.done(*self._next_finished())
            else:
                break  # what is left needs a stage that failed
        if self._failures:
            left = len(entries.keys() - self.in_store) - len(self._failures)
            raise StageFailedError(
                f"{len(self._failures)} of {len(entries)} stages failed and {left} that need them were "
                "not started; finished stages are kept; the same command computes only the rest. "
                f"First failure: {self._failures[0]}"
            )

    def _pass_over(self, entries: Mapping[str, Outlook]) -> set[str]:
        """Count cached stages at once if they are too many to be task runs; return their digests."""
        cached = {digest for digest, entry in entries.items() if entry.state == "cached"}
        if len(cached) <= _MOST_CACHED_SHOWN:
            return set()
        self.in_store |= cached
        for watcher in self._watchers:
            watcher.passed_over(len(cached))
        return cached

    def _has_room(self) -> bool:
        running = len(self._running)
        if self._at_once is not None:
            return running < self._at_once
        return running < _MOST_WAITING_ON_RAY or running < 2 * cores()

    def _tell(self, stage: Stage, how: str) -> None:
        count_stage(stage.kind, how)
        if stage.kind in _TESTED:
            self._display.found(stage, self._states[stage.digest].result()["metrics"]["test_accuracy"])
        for watcher in self._watchers:
            watcher.finished(stage, how)

    def _start(self, entry: Outlook) -> bool:
        """Start a stage; return whether it is finished at once."""
        stage = entry.stage
        if entry.loss is not None:
            self._display.warn(f"{stage.title}: {entry.loss}; it is computed again")
        if entry.state == "compute" and not stage.context:
            if not self._claimed(stage):
                self._elsewhere[stage.digest] = stage
                self._display.say(f"{stage.title}: another run computes it; waiting")
                return False
            if not self._was_made_meanwhile(stage):
                self._submit(stage)
                return False
            self._take_over(stage)
            return True
        # In place: a cached stage never waits for a core or a GPU, and the flow sees the user's images.
        self._call(stage, refresh=entry.state == "compute")
        self.computed += entry.state == "compute"
        self._tell(stage, "cached" if entry.state == "cached" else "computed")
        return True

    def _claimed(self, stage: Stage) -> bool:
        """Claim a stage for this run; shards are claimed with the data set that they are parts of."""
        return stage.kind not in _CLAIMED or self._claims.take(self._claim_of.get(stage.digest, stage.digest))

    def _was_made_meanwhile(self, stage: Stage) -> bool:
        """Tell whether another run finished a claimed stage after this run looked for it."""
        if stage.kind not in _CLAIMED:
            return False
        claim = self._claim_of.get(stage.digest, stage.digest)
        if claim not in self._made_meanwhile:
            self._made_meanwhile[claim] = self._is_there(claim)
        return self._made_meanwhile[claim]

    def _is_there(self, digest: str) -> bool:
        return patiently(lambda: self._store.state(digest))[0] is not None

    def _take_over(self, stage: Stage) -> None:
        self._call(stage, refresh=False)
        self._tell(stage, "computed by another run")

    def _call(self, stage: Stage, refresh: bool) -> None:
        state: StageState = self._task(stage, refresh)(stage, self._store.uri, [], return_state=True)  # type: ignore[assignment]
        state.result()
        self._states[stage.digest] = state
        self.in_store.add(stage.digest)

    def _submit(self, stage: Stage) -> None:
        # A source model by its digest may be of another run.
        after = [self._states[digest] for digest in stage.needs if digest in self._states]
        _ = self._board  # there before the stage looks for it
        if (problem := shortage(stage, self._gpus_per_stage)) is not None:
            self._display.warn(f"{stage.title}: {problem}")
        with remote_options(**resources(stage, self._gpus_per_stage)):
            future = self._task(stage, refresh=True).submit(stage, self._store.uri, after)
        self._running[future] = stage
        future.add_done_callback(self._done.put)

    def _next_finished(self) -> list[str]:
        """Wait a moment for a stage to end; return the digests that are in the store now."""
        try:
            future = self._done.get(timeout=_SECONDS_BETWEEN_LOOKS)
        except Empty:
            stages = read_board(self._board)
            for watcher in self._watchers:
                watcher.running(stages)
            return []
        return self._finished(future)

    def _found_by_inquiry(self) -> list[str]:
        """Every few seconds, stop if the run was cancelled, and return what other runs have finished.

        That must not wait until no stage ends for a while: in a grid of tiny ones there is no such while.
        """
        if time.monotonic() - self._last_inquiry <= _SECONDS_BETWEEN_INQUIRIES:
            return []
        _stop_if_cancelled()
        self._submit_all(self._new_tries.take_due())
        arrived = self._arrived_from_elsewhere()
        self._last_inquiry = time.monotonic()  # a server that is slow to answer is not asked all the time
        return arrived

    def _arrived_from_elsewhere(self) -> list[str]:
        """Return what other runs have finished, and take over what they gave up."""
        arrived = []
        for stage in list(self._elsewhere.values()):
            if self._is_there(stage.digest):
                self._take_over(stage)
                arrived.append(stage.digest)
            elif self._claimed(stage):
                self._submit(stage)
            else:
                continue
            del self._elsewhere[stage.digest]
        return arrived

    def _finished(self, future: StageFuture) -> list[str]:
        """Note how a stage ended; return the digests that are in the store now and were not before."""
        stage = self._running.pop(future)
        future.wait()
        state = future.state
        if not state.is_completed() and (
            self._repair_inputs(stage, state) or self._tried_later(stage, state)
        ):
            return []
        if stage.digest not in self._claim_of:
            self._claims.give_up(stage.digest)
        if state.is_completed():
            repaired = stage.digest in self.in_store
            self.in_store.add(stage.digest)
            self.computed += 1
            self._states[stage.digest] = state
            self._tell(stage, "computed")
            self._submit_all(self._repairs.end(stage.digest))
            return [] if repaired else [stage.digest]
        problem = f"{stage.title}: {_reason(state)}"
        count_failure(stage.kind)
        self._failures.append(problem)
        self._display.warn(f"failed: {problem}")
        return []

    def _tried_later(self, stage: Stage, state: StageState) -> bool:
        """Grant a stage a new try if its task broke outside its own code; return whether it has one.

        That is so where the Prefect server was away, which a task asks before it begins.
        """
        error = state.result(raise_on_failure=False)
        if not isinstance(error, RayTaskError) or is_lasting(error):
            return False
        wait = self._new_tries.grant(stage.digest)
        if wait is not None:
            self._display.say(f"{stage.title}: {_reason(state)}; tried again in {wait:.0f} s")
        return wait is not None

    def _repair_inputs(self, stage: Stage, state: StageState) -> bool:
        """Compute inputs again that a stage found damaged or gone; return whether there were any.

        What a file's size and time do not betray is seen when its bytes are read.
        """
        error = state.result(raise_on_failure=False)
        if not isinstance(error, DamagedArtifactError | MissingArtifactError):
            return False
        damaged = []
        for digest in stage.needs:
            # A user's files are read where the flow runs, before what needs them: the next run does so again.
            if digest not in self._entries or self._entries[digest].stage.context:
                continue
            if (problem := self._problem(digest)) is not None:
                title = self._entries[digest].stage.title
                self._display.say(f"{title}: damaged: {problem}; it is computed again")
                damaged.append(digest)
        if damaged:
            unattended = self._repairs.begin(stage.digest, damaged)
            for digest in unattended:
                self._store.withdraw(digest)
            self._submit_all(unattended)
        return bool(damaged)

    def _problem(self, digest: str) -> str | None:
        return patiently(lambda: self._store.verify(digest))

    def _submit_all(self, digests: Iterable[str]) -> None:
        for digest in digests:
            self._submit(self._entries[digest].stage)

    @cached_property
    def _board(self) -> Any:
        return create_board(board_name())

    def _task(self, stage: Stage, refresh: bool) -> StageTask:
        # A stage that is not intact in the store must not be answered from Prefect's record of it.
        return TASKS[stage.kind].with_options(
            result_storage=self._records, refresh_cache=refresh, timeout_seconds=self._timeout_seconds
        )


def _stages(entries: Mapping[str, Outlook]) -> Iterable[Stage]:
    return (entry.stage for entry in entries.values())


def _stop_if_cancelled() -> None:
    """Raise ``RunCancelledError`` if somebody cancelled this flow run."""
    if is_cancelled():
        raise RunCancelledError


def _reason(state: StageState) -> str:
    error = state.result(raise_on_failure=False)
    if isinstance(error, Exception) and (isinstance(error, AdvfeatError | RayError) or not str(error)):
        return cause(error)
    return (state.message or state.name or "failed").splitlines()[0]


def _needs(entry: Outlook) -> set[str]:
    return set() if entry.state == "cached" else set(entry.stage.needs)
