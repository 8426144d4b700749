"""One flow a recipe: its parameters are a form in Prefect's user interface, its result a grid's rows.

``store`` is an fsspec URI; unset, it is that of ``ADVFEAT_STORE`` where the flow runs.
"""

import os
from typing import Annotated, Any

from prefect import Flow, State, flow
from prefect.runtime import flow_run
from pydantic import Field

from advfeat.errors import InputError
from advfeat.grid import GRIDS, Grid, PerturbedGrid, SourceGrid, title_of
from advfeat.spec import RecipeName
from flows.experiment import StageTimeout
from flows.grid import StagesAtOnce, run_grid
from flows.ray_cluster import configured_runner
from flows.result import RunResult

StoreURI = Annotated[
    str | None, Field(description="folder or fsspec URI of the store; of ADVFEAT_STORE if unset")
]
Result = RunResult | State[RunResult]


def _name_of_run() -> str:
    recipe = next(name for name in GRIDS if name == flow_run.get_flow_name())
    return title_of(recipe, GRIDS[recipe].model_validate(flow_run.get_parameters()["grid"]))


_settings: dict[str, Any] = {"flow_run_name": _name_of_run, "task_runner": configured_runner()}


@flow(name="clean", **_settings)
def clean(
    grid: Grid,
    store: StoreURI = None,
    stages_at_once: StagesAtOnce = None,
    stage_timeout_seconds: StageTimeout = None,
) -> Result:
    """Learn from the real images under their own labels: the control of all other recipes."""
    return run_grid("clean", grid, _store(store), stages_at_once, stage_timeout_seconds)


@flow(name="shuffled", **_settings)
def shuffled(
    grid: Grid,
    store: StoreURI = None,
    stages_at_once: StagesAtOnce = None,
    stage_timeout_seconds: StageTimeout = None,
) -> Result:
    """Learn from real images under labels drawn at random: the control that must not teach."""
    return run_grid("shuffled", grid, _store(store), stages_at_once, stage_timeout_seconds)


@flow(name="mislabeled", **_settings)
def mislabeled(
    grid: SourceGrid,
    store: StoreURI = None,
    stages_at_once: StagesAtOnce = None,
    stage_timeout_seconds: StageTimeout = None,
) -> Result:
    """Learn from real images under a weak source model's errors (Wallace, Distill 2019)."""
    return run_grid("mislabeled", grid, _store(store), stages_at_once, stage_timeout_seconds)


@flow(name="d_rand", **_settings)
def d_rand(
    grid: PerturbedGrid,
    store: StoreURI = None,
    stages_at_once: StagesAtOnce = None,
    stage_timeout_seconds: StageTimeout = None,
) -> Result:
    """Learn from adversarial examples under random labels (Ilyas et al. 2019, section 3.2)."""
    return run_grid("d_rand", grid, _store(store), stages_at_once, stage_timeout_seconds)


@flow(name="d_det", **_settings)
def d_det(
    grid: PerturbedGrid,
    store: StoreURI = None,
    stages_at_once: StagesAtOnce = None,
    stage_timeout_seconds: StageTimeout = None,
) -> Result:
    """Learn from adversarial examples under the next class's label (Ilyas et al. 2019, section 3.2)."""
    return run_grid("d_det", grid, _store(store), stages_at_once, stage_timeout_seconds)


FLOWS: dict[RecipeName, Flow[..., Any]] = {
    "clean": clean,
    "shuffled": shuffled,
    "mislabeled": mislabeled,
    "d_rand": d_rand,
    "d_det": d_det,
}


def _store(uri: str | None) -> str:
    found = uri or os.environ.get("ADVFEAT_STORE")
    if not found:
        raise InputError("store", uri, "is no store", "give a URI, or set ADVFEAT_STORE where flows run")
    return found
