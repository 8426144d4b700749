"""The main job as a Prefect flow: spec -> plan -> stages -> rows and report."""

from typing import Annotated, Any

from prefect import State, flow
from prefect.runtime import flow_run
from pydantic import Field

from advfeat.cluster.services import FLOW
from advfeat.flows.display.artifacts import publish_results
from advfeat.flows.display.progress_bars import LongStages
from advfeat.flows.display.terminal import Display
from advfeat.flows.endings import ended
from advfeat.flows.given import (
    GPUsPerStage,
    Note,
    StageTimeout,
    StoreURI,
    check_gpus_per_stage,
    check_note,
    check_timeout,
    opened,
    shown,
)
from advfeat.flows.result import RunResult
from advfeat.flows.run_names import named
from advfeat.flows.telling import target_of_deployment, tell
from advfeat.flows.walk.late_ray import gpus_turned_up
from advfeat.flows.walk.ray_cluster import configured_runner, has_gpus
from advfeat.flows.walk.recording import recorded
from advfeat.flows.walk.walk import Walk
from advfeat.flows.whose import user_of_run
from advfeat.planning import Experiment, build_plan, changed_settings, outlook
from advfeat.planning.experiment_form import ExperimentForm, read_form
from advfeat.recipes import RECIPES

NAME = FLOW
_D_RAND = RECIPES["d_rand"]
DESCRIPTION = (
    "Run an experiment: train source models, make a data set for each recipe, train target models on these "
    "and compare them. Claim: networks learn the true classes from wrongly labelled images alone, if these "
    "carry features of a network. " + (_D_RAND.published.sentence if _D_RAND.published else "")
)


_WHAT_IS_RUN = "what is run; each field says what it does if it is left empty"


def _title(parameters: dict[str, Any]) -> str | None:
    given = parameters.get("experiment")
    name = given.get("name") if isinstance(given, dict) else getattr(given, "name", None)
    return name if isinstance(name, str) else None


@flow(
    name=NAME,
    description=DESCRIPTION,
    flow_run_name=named(_title),
    task_runner=configured_runner(),
    validate_parameters=False,
)
def learning_from_errors(
    experiment: Annotated[ExperimentForm, Field(json_schema_extra=shown("Experiment", _WHAT_IS_RUN))],
    store: StoreURI = None,
    stage_timeout_seconds: StageTimeout = None,
    note: Note = None,
    gpus_per_stage: GPUsPerStage = None,
) -> RunResult | State[RunResult]:
    """Train source models, build a data set per recipe, train target models on them, compare.

    Everything that the store already holds is taken from there.
    """
    return ended(lambda: _run(read_form(experiment), store, stage_timeout_seconds, note, gpus_per_stage))


def _run(
    experiment: Experiment,
    store: str | None,
    stage_timeout_seconds: float | None,
    note: str | None,
    gpus_per_stage: float | None,
) -> RunResult:
    check_timeout(stage_timeout_seconds)
    check_note(note)
    check_gpus_per_stage(gpus_per_stage)
    target = target_of_deployment()
    plan = build_plan(experiment, on_gpus=has_gpus())
    place = opened(store)
    if gpus_turned_up(gpus_per_stage):
        plan = build_plan(experiment, on_gpus=True)
    run, changed = str(flow_run.get_id()), changed_settings(experiment)
    with recorded(
        place, NAME, experiment.name, plan.stages, run=run, user=user_of_run(), note=note, changed=changed
    ) as recording:
        outlooks = outlook(plan, place)
        with Display(outlooks) as display:
            walk = Walk(
                place,
                display,
                watchers=(LongStages(),),
                timeout_seconds=stage_timeout_seconds,
                gpus_per_stage=gpus_per_stage,
            )
            walk.run(outlooks)
        recording.results(plan.report.digest, total=len(outlooks), computed=walk.computed)
        result = RunResult.of(recording.ended("completed"), place)
        publish_results(NAME, experiment.name, result, place)
    tell(target, place, result)
    return result
