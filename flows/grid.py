"""A grid as a flow run: one DAG for all its points, then a report over those that were finished."""

from collections.abc import Sequence

from prefect import get_run_logger
from prefect.runtime import flow_run

from advfeat.errors import StageFailedError
from advfeat.flows.display.artifacts import publish_results
from advfeat.flows.display.progress_bars import GridProgress, LongStages
from advfeat.flows.display.terminal import Display
from advfeat.flows.given import check_at_once, check_gpus_per_stage, check_note, check_timeout, opened
from advfeat.flows.result import RunResult
from advfeat.flows.telling import target_of_deployment, tell
from advfeat.flows.walk.late_ray import gpus_turned_up
from advfeat.flows.walk.ray_cluster import has_gpus
from advfeat.flows.walk.recording import recorded
from advfeat.flows.walk.walk import Walk
from advfeat.flows.whose import user_of_run
from advfeat.planning import (
    Grid,
    Outlook,
    Plan,
    Point,
    RecipeName,
    grid_report,
    outlook,
    plan_of_grid,
    points,
    title_of,
)
from advfeat.recipes import plain_name


def run_grid(
    recipe: RecipeName,
    grid: Grid,
    store: str | None,
    stages_at_once: int | None,
    stage_timeout_seconds: float | None,
    note: str | None = None,
    gpus_per_stage: float | None = None,
) -> RunResult:
    """Compute all points of a grid and their report, whatever the store does not hold already.

    Raises ``InputError`` before anything is computed if the grid cannot be, and ``StageFailedError``
    in the end if a point failed; the report then holds the others.
    """
    check_at_once(stages_at_once)
    check_timeout(stage_timeout_seconds)
    check_note(note)
    check_gpus_per_stage(gpus_per_stage)
    target = target_of_deployment()
    name, title = plain_name(recipe), title_of(recipe, grid)
    wanted, plan = points(recipe, grid), plan_of_grid(recipe, grid, on_gpus=has_gpus())
    place = opened(store)
    if gpus_turned_up(gpus_per_stage):
        plan = plan_of_grid(recipe, grid, on_gpus=True)
    grid_report(title, wanted, plan.made_of)  # refused now, if it is too large
    run = str(flow_run.get_id())
    with recorded(place, name, title, plan.stages, run=run, user=user_of_run(), note=note) as recording:
        outlooks = outlook(Plan(plan.stages), place)
        extent = extent_of(wanted, outlooks)
        get_run_logger().info("%s: %s", title, extent)
        with Display(outlooks, to_come=1) as display:
            display.say(f"{title}: {extent}")
            watchers = (GridProgress(name, extent, total=len(outlooks) + 1), LongStages())
            walk = Walk(
                place,
                display,
                watchers=watchers,
                timeout_seconds=stage_timeout_seconds,
                at_once=stages_at_once,
                gpus_per_stage=gpus_per_stage,
            )
            failure = _failure(walk, outlooks)
            done = [number for number, roles in enumerate(plan.made_of) if walk.in_store >= {*roles.values()}]
            if not done and failure is not None:
                raise failure
            missing = len(wanted) - len(done)
            report = grid_report(
                title,
                [wanted[number] for number in done],
                [plan.made_of[number] for number in done],
                missing=missing,
            )
            recording.needs([report])
            walk.run(outlook(Plan((report,)), place))
        recording.results(report.digest, total=len(outlooks) + 1, computed=walk.computed)
        result = RunResult.of(recording.ended("completed"), place)
        publish_results(name, title, result, place)
        if failure is not None:
            raise StageFailedError(
                f"{missing} of {len(wanted)} experiments failed; the report holds the rest. {failure}"
            )
    tell(target, place, result)
    return result


def _failure(walk: Walk, outlooks: Sequence[Outlook]) -> StageFailedError | None:
    """Walk the plan; return what failed, when all else has been computed."""
    try:
        walk.run(outlooks)
    except StageFailedError as failure:
        return failure
    return None


def extent_of(wanted: Sequence[Point], outlooks: Sequence[Outlook]) -> str:
    """Say how much a grid is: experiments, stages, and how many of those are cached."""
    cached = sum(entry.state == "cached" for entry in outlooks)
    experiments = "1 experiment" if len(wanted) == 1 else f"{len(wanted)} experiments"
    return f"{experiments}, {len(outlooks)} stages and a report, {cached} of them cached"
