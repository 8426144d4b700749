"""One flow a recipe: its parameters are a form in Prefect's user interface, its result a grid's rows."""

import os
from typing import Any

from prefect import Flow, State, flow
from prefect.runtime import flow_run

from advfeat.errors import InputError
from advfeat.grid import GRIDS, Grid, title_of
from advfeat.spec import RecipeName
from flows.experiment import StageTimeout
from flows.grid import StagesAtOnce, run_grid
from flows.ray_cluster import configured_runner
from flows.result import RunResult

_ARGUMENTS = """
Args:
    grid: The values on each axis; those left empty are of the data set's preset.
    store: Folder or fsspec URI of the store; that of ADVFEAT_STORE where the flow runs if unset.
    stages_at_once: How many stages are computed at the same time; as many as fit if unset.
    stage_timeout_seconds: Seconds after which a stage is given up; never if unset.
"""
"""Prefect shows these beside the fields of its form."""


def _recipe_flow(recipe: RecipeName, summary: str) -> Flow[..., Any]:
    def run(
        grid: Grid,
        store: str | None = None,
        stages_at_once: StagesAtOnce = None,
        stage_timeout_seconds: StageTimeout = None,
    ) -> RunResult | State[RunResult]:
        return run_grid(recipe, grid, _store(store), stages_at_once, stage_timeout_seconds)

    def name_of_run() -> str:
        return title_of(recipe, GRIDS[recipe].model_validate(flow_run.get_parameters()["grid"]))

    run.__name__ = run.__qualname__ = recipe  # where a deployment finds it in this module
    run.__doc__ = f"{summary}\n{_ARGUMENTS}"
    run.__annotations__["grid"] = GRIDS[recipe]
    return flow(name=recipe, description=summary, flow_run_name=name_of_run, task_runner=configured_runner())(
        run
    )


def _store(uri: str | None) -> str:
    found = uri or os.environ.get("ADVFEAT_STORE")
    if not found:
        raise InputError("store", uri, "is no store", "give a URI, or set ADVFEAT_STORE where flows run")
    return found


clean = _recipe_flow(
    "clean", "Learn from the real images under their own labels: the control of all other recipes."
)
shuffled = _recipe_flow(
    "shuffled", "Learn from real images under labels drawn at random: the control that must not teach."
)
mislabeled = _recipe_flow(
    "mislabeled", "Learn from real images under a weak source model's errors (Wallace, Distill 2019)."
)
d_rand = _recipe_flow(
    "d_rand", "Learn from adversarial examples under random labels (Ilyas et al. 2019, section 3.2)."
)
d_det = _recipe_flow(
    "d_det", "Learn from adversarial examples under the next class's label (Ilyas et al. 2019, section 3.2)."
)

FLOWS: dict[RecipeName, Flow[..., Any]] = {
    "clean": clean,
    "shuffled": shuffled,
    "mislabeled": mislabeled,
    "d_rand": d_rand,
    "d_det": d_det,
}
