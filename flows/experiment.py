"""The main job as a Prefect flow: spec -> plan -> stages -> rows and report."""

from typing import Annotated

from prefect import State, flow
from prefect.runtime import flow_run
from prefect.states import Cancelled
from pydantic import Field

from advfeat.cluster.services import FLOW
from advfeat.errors import RunCancelledError
from advfeat.flows.display.artifacts import publish_table
from advfeat.flows.display.progress_bars import LongStages
from advfeat.flows.display.terminal import Display
from advfeat.flows.result import RunResult
from advfeat.flows.telling import target_of_deployment, tell
from advfeat.flows.walk.ray_cluster import configured_runner, has_gpus
from advfeat.flows.walk.recording import recorded
from advfeat.flows.walk.walk import Walk
from advfeat.planning import Experiment, build_plan, changed_settings, outlook
from advfeat.storage import Store
from advfeat.storage.runs import LONGEST_NOTE

NAME = FLOW

StageTimeout = Annotated[
    float | None, Field(gt=0, description="seconds after which a stage is given up; never if unset")
]
Note = Annotated[
    str | None, Field(max_length=LONGEST_NOTE, description="what you say of the run, for `advfeat runs`")
]


@flow(name=NAME, flow_run_name="{experiment.name}", task_runner=configured_runner())
def learning_from_errors(
    experiment: Experiment, store: str, stage_timeout_seconds: StageTimeout = None, note: Note = None
) -> RunResult | State[RunResult]:
    """Train source models, build a data set per recipe, train target models on them, compare.

    ``store`` is an fsspec URI. Everything that the store already holds is taken from there.
    """
    place, target = Store(store), target_of_deployment()
    plan, run = build_plan(experiment, on_gpus=has_gpus()), str(flow_run.get_id())
    try:
        changed = changed_settings(experiment)
        with recorded(
            place, NAME, experiment.name, plan.stages, run=run, note=note, changed=changed
        ) as recording:
            outlooks = outlook(plan, place)
            with Display(outlooks) as display:
                walk = Walk(place, display, watchers=(LongStages(),), timeout_seconds=stage_timeout_seconds)
                walk.run(outlooks)
            recording.results(plan.report.digest, total=len(outlooks), computed=walk.computed)
            result = RunResult.of(recording.ended("completed"), place)
            publish_table(NAME, experiment.name, result)
        tell(target, place, result)
    except RunCancelledError as cancelled:
        return Cancelled(message=str(cancelled))
    return result
