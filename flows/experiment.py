"""The main job as a Prefect flow: spec -> plan -> stages -> rows and report."""

import time
from typing import Annotated

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from advfeat.errors import RunCancelledError
from advfeat.plan import build_plan, outlook
from advfeat.report.rows import read_rows
from advfeat.spec import Experiment
from advfeat.store import Store
from flows.display import Display
from flows.ray_cluster import configured_runner, has_gpus
from flows.result import RunResult, StageCounts
from flows.walk import Walk

StageTimeout = Annotated[
    float | None, Field(gt=0, description="seconds after which a stage is given up; never if unset")
]


@flow(name="learning-from-errors", flow_run_name="{experiment.name}", task_runner=configured_runner())
def learning_from_errors(
    experiment: Experiment, store: str, stage_timeout_seconds: StageTimeout = None
) -> RunResult | State[RunResult]:
    """Train source models, build a data set per recipe, train target models on them, compare.

    ``store`` is an fsspec URI. Everything that the store already holds is taken from there.
    """
    began = time.monotonic()
    place = Store(store)
    plan = build_plan(experiment, on_gpus=has_gpus())
    outlooks = outlook(plan, place)
    with Display(outlooks) as display:
        walk = Walk(place, display, timeout_seconds=stage_timeout_seconds)
        try:
            walk.run(outlooks)
        except RunCancelledError as cancelled:
            return Cancelled(message=str(cancelled))
    return RunResult(
        run=str(flow_run.get_id()),
        seconds=round(time.monotonic() - began, 1),
        rows=tuple(read_rows(place, plan.report.digest)),
        stages=StageCounts(total=len(outlooks), computed=walk.computed, cached=len(outlooks) - walk.computed),
        report=plan.report.digest,
        store=place.uri,
    )
