"""Starts a run from a shell: on what the user configured, else on an embedded server and Ray.

What was configured (a Prefect API, a Ray cluster, a store) is used as it is and never stopped; what
was started here ends here, whatever happens.
"""

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from advfeat.cluster.certificates import check_certificates
from advfeat.cluster.cores import usable_cores
from advfeat.cluster.embedded import local_ray
from advfeat.cluster.services import FLOW
from advfeat.data import fetch
from advfeat.data.read_once import read_once
from advfeat.errors import InputError, RunCancelledError
from advfeat.flows.display.lines import say, waiting, waits_for
from advfeat.flows.from_store import from_store
from advfeat.flows.given import check_gpus_per_stage, check_note
from advfeat.flows.prefect_api import configured_api, prefect_api
from advfeat.flows.walk.ray_cluster import configured_address, connection, is_connected
from advfeat.planning import (
    Experiment,
    Grid,
    Outlook,
    Plan,
    RecipeName,
    build_plan,
    changed_settings,
    grid_report,
    outlook,
    plan_of_grid,
    points,
    title_of,
)
from advfeat.recipes import plain_name
from advfeat.storage import Stage, Store

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.task_runners import TaskRunner

    from advfeat.flows.result import RunResult


def launch(
    experiment: Experiment,
    store: Store,
    stage_timeout_seconds: float | None = None,
    note: str | None = None,
    gpus_per_stage: float | None = None,
) -> "RunResult":
    """Run an experiment to its end and return its result; ``note`` is what its user says of it.

    Raises ``RunCancelledError`` if somebody cancelled it in Prefect.
    """
    check_note(note)
    check_gpus_per_stage(gpus_per_stage)

    def main_job() -> "Flow[..., Any]":
        from advfeat.flows.experiment import learning_from_errors

        return learning_from_errors

    arguments = {
        "experiment": experiment,
        "store": store.uri,
        "stage_timeout_seconds": stage_timeout_seconds,
        "note": note,
        "gpus_per_stage": gpus_per_stage,
    }
    with read_once(), waiting("looking at what the store holds …"):
        plan = build_plan(experiment)
        cached = partial(
            from_store,
            FLOW,
            experiment.name,
            plan.stages,
            plan.report,
            store,
            note=note,
            changed=changed_settings(experiment),
        )
        return _launch(main_job, arguments, outlook(plan, store), cached)


def launch_grid(
    recipe: RecipeName,
    grid: Grid,
    store: Store,
    stages_at_once: int | None = None,
    stage_timeout_seconds: float | None = None,
    note: str | None = None,
    gpus_per_stage: float | None = None,
) -> "RunResult":
    """Run a grid to its end and return its rows, one a point; arguments and raises like ``launch``."""
    check_note(note)
    check_gpus_per_stage(gpus_per_stage)

    def recipes_flow() -> "Flow[..., Any]":
        from advfeat.flows.recipes import FLOWS

        return FLOWS[recipe]

    arguments = {
        "grid": grid,
        "store": store.uri,
        "stages_at_once": stages_at_once,
        "stage_timeout_seconds": stage_timeout_seconds,
        "note": note,
        "gpus_per_stage": gpus_per_stage,
    }
    with read_once():
        with waiting("laying out the grid …"):
            wanted = points(recipe, grid)
        for spec in {spec for point in wanted for spec in point.experiment.data_specs}:
            fetch(spec)
        with waiting("looking at what the store holds …"):
            plan, title = plan_of_grid(recipe, grid), title_of(recipe, grid)
            report = grid_report(title, wanted, plan.made_of)
            stages = (*plan.stages, report)
            cached = partial(from_store, plain_name(recipe), title, stages, report, store, note=note)
            return _launch(recipes_flow, arguments, outlook(Plan(stages), store), cached)


def _launch(
    imported_flow: "Callable[[], Flow[..., Any]]",
    arguments: dict[str, Any],
    outlooks: Iterable[Outlook],
    cached: "Callable[[], RunResult]",
) -> "RunResult":
    """Run a flow, or take what it would find from the store, where all is there and nobody could watch it."""
    began = time.monotonic()
    check_certificates()
    stages = [entry.stage for entry in outlooks if entry.state == "compute"]
    if not stages and configured_api() is None:
        return cached().model_copy(update={"seconds": round(time.monotonic() - began, 1)})
    if stages and configured_address() is None:
        _check_cores(stages)
    with prefect_api() as server, _ray(bool(stages)) as task_runner:
        from prefect.exceptions import CancelledRun

        from advfeat.flows.endings import INTERRUPTED
        from advfeat.flows.result import RunResult

        if server is not None:
            waits_for("starting a Prefect server …", told=False)
            pages = server.wait_until_ready().removesuffix("/api")
            say(f"Prefect: {pages} (log in with the line in {server.login})")
        waits_for("starting the run …", told=False)
        flow = imported_flow().with_options(task_runner=task_runner)
        try:
            result = flow(**arguments)
        except CancelledRun as cancelled:
            if str(cancelled) == INTERRUPTED:
                raise KeyboardInterrupt from cancelled
            raise RunCancelledError from cancelled
    assert isinstance(result, RunResult)
    return result.model_copy(update={"seconds": round(time.monotonic() - began, 1)})


def _check_cores(stages: Iterable[Stage]) -> None:
    """Refuse trainings that would wait on this machine for ever; raises ``InputError``."""
    cores = usable_cores()
    for stage in stages:
        wanted = stage.workers * stage.threads
        if wanted > cores:
            raise InputError(
                "training.workers" if stage.workers > 1 else "training.threads",
                stage.workers if stage.workers > 1 else stage.threads,
                f"takes {wanted} cores for the {stage.title}, this machine has {cores}",
                "ask for less, or run on a cluster with --ray",
            )


@contextlib.contextmanager
def _ray(computes: bool) -> Iterator["TaskRunner[Any]"]:
    """Give a runner on the configured Ray cluster, else on a local one; cached stages need neither."""
    if not computes:
        from prefect.task_runners import ThreadPoolTaskRunner

        yield ThreadPoolTaskRunner()
        return
    from prefect_ray import RayTaskRunner

    if is_connected():
        raise InputError(
            "ray",
            configured_address(),
            "cannot be used: this program is connected to a Ray already",
            "call ray.shutdown() first, or give the address of that cluster from another program",
        )
    address = configured_address()
    if address is None:
        waits_for("starting Ray …")
    with local_ray() if address is None else connection(address):
        yield RayTaskRunner()
