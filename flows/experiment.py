"""The main job as a Prefect flow: spec -> plan -> stages -> rows and report."""

import time

from prefect import flow
from prefect.runtime import flow_run

from advfeat.plan import build_plan, outlook
from advfeat.report.rows import read_rows
from advfeat.spec import Experiment
from advfeat.store import Store
from flows.display import Display
from flows.result import RunResult, StageCounts
from flows.walk import Walk


@flow(name="learning-from-errors", flow_run_name="{experiment.name}")
def learning_from_errors(experiment: Experiment, store: str) -> RunResult:
    """Train source models, build a data set per recipe, train target models on them, compare.

    ``store`` is an fsspec URI. Everything that the store already holds is taken from there.
    """
    began = time.monotonic()
    place = Store(store)
    plan = build_plan(experiment)
    outlooks = outlook(plan, place)
    with Display(outlooks) as display:
        Walk(place, display).run(outlooks)
    cached = sum(entry.state == "cached" for entry in outlooks)
    return RunResult(
        run=str(flow_run.get_id()),
        seconds=round(time.monotonic() - began, 1),
        rows=tuple(read_rows(place, plan.report.digest)),
        stages=StageCounts(total=len(outlooks), computed=len(outlooks) - cached, cached=cached),
        report=plan.report.digest,
        store=place.uri,
    )
