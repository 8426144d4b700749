"""What all stage tasks have in common."""

import errno
import functools
import os
import platform
from collections.abc import Callable
from typing import Any

from prefect import Task, get_run_logger, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import TaskRunContext
from prefect.runtime import flow_run
from prefect.task_engine import TaskRunTimeoutError

from advfeat.cluster.board import reporter
from advfeat.cluster.metrics import counting_passes, timed
from advfeat.cluster.worker_place import worker_place
from advfeat.errors import StoreRefusedError
from advfeat.extensions import provide
from advfeat.progress import Progress
from advfeat.storage import Stage
from advfeat.tasks.cache_records import PLAIN_JSON

# Long enough for a store that is started again; each wait varies, so that shards do not come back at once.
RETRY_DELAYS_SECONDS = [2.0, 5.0, 10.0, 20.0, 40.0]

_LASTING = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOENT),
    *(errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG),
}

StageFunction = Callable[..., dict[str, Any]]


def stage_task(name: str) -> Callable[[StageFunction], Task[Any, dict[str, Any]]]:
    """Make a function of a stage a Prefect task whose cache key is the stage's digest.

    The function takes the stage, the store's URI and the results of the tasks that came before, which
    it reads from the store itself: they are there for the graph of the run that Prefect draws. It
    returns an ``ArtifactRef`` as plain JSON. Only input and output errors are retried here: a computation
    that failed once fails again, and a worker that died is replaced by Ray, under the same task run.
    """

    def decorate(compute: StageFunction) -> Task[Any, dict[str, Any]]:
        @functools.wraps(compute)
        def compute_and_say_where(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
            _say_where(stage)
            provide(stage.code)
            try:
                with timed(stage.kind):
                    return compute(stage, store, after)
            except PermissionError as error:
                raise StoreRefusedError(_refusal(store, error)) from error

        return task(
            name=name,
            task_run_name="{stage.title}",
            cache_key_fn=_stage_digest,
            persist_result=True,
            result_serializer=PLAIN_JSON,
            retries=len(RETRY_DELAYS_SECONDS),
            retry_delay_seconds=RETRY_DELAYS_SECONDS,
            retry_jitter_factor=0.5,
            retry_condition_fn=_fails_over_something_that_may_pass,
        )(compute_and_say_where)

    return decorate


def board_name() -> str:
    """Name the progress board of the flow run that this task or flow belongs to."""
    return f"advfeat-progress-{flow_run.get_id()}"


def stage_progress(stage: Stage) -> Progress | None:
    """Return where a stage reports its progress."""
    report = reporter(board_name(), stage.title)
    return None if report is None else counting_passes(stage.kind, report)


def _say_where(stage: Stage) -> None:
    """Lead from Prefect's page to the worker's file, and by the run's id back from there."""
    where = f"{stage.title}: computing on {platform.node()}, process {os.getpid()}"
    if (place := worker_place()) is not None:
        gpu = f", GPU {place.gpus}" if place.gpus else ""
        where += f", Ray node {place.node}{gpu}, log {place.log}"
        print(f"run {flow_run.get_id()}: {stage.title}", flush=True)
    get_run_logger().info("%s (run %s)", where, flow_run.get_id())


def _refusal(store: str, error: PermissionError) -> str:
    clock = "its keys, and its clock: S3 refuses one that is wrong by 15 minutes"
    remedy = clock if store.startswith("s3://") else "who may read and write there"
    return f"{store} refuses node {platform.node()} ({error}); check {remedy}"


def _stage_digest(context: TaskRunContext, parameters: dict[str, Any]) -> str:
    digest: str = parameters["stage"].digest
    return digest


def _fails_over_something_that_may_pass(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    return may_pass(state.result(raise_on_failure=False))


def may_pass(error: object) -> bool:
    """Tell whether an error is one of input or output, and for a reason that may pass."""
    from botocore.exceptions import BotoCoreError

    if isinstance(error, TaskRunTimeoutError):
        return False  # the stage had its time, as much as the user gave
    if isinstance(error, OSError):
        return error.errno not in _LASTING
    return isinstance(error, BotoCoreError)  # the network's errors; wrong keys are an OSError
