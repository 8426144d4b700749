"""One flow a recipe: its parameters are a form in Prefect's user interface, its result a grid's rows."""

import os
from typing import Any

from prefect import Flow, State, flow
from prefect.runtime import flow_run

from advfeat.errors import InputError
from advfeat.flows.experiment import StageTimeout
from advfeat.flows.grid import StagesAtOnce, run_grid
from advfeat.flows.result import RunResult
from advfeat.flows.walk.ray_cluster import configured_runner
from advfeat.planning import RecipeName
from advfeat.planning.forms import GRIDS, Grid
from advfeat.planning.grid import title_of

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


_SUMMARIES: dict[RecipeName, str] = {
    "clean": "Learn from the real images under their own labels: the control of all other recipes.",
    "d_rand": "Learn from adversarial examples under random labels (Ilyas et al. 2019, section 3.2).",
    "d_det": "Learn from adversarial examples under the next class's label (Ilyas et al. 2019, section 3.2).",
    "least_likely": "Learn from adversarial examples under the class that the source model finds least "
    "likely.",
    "most_confused": "Learn from adversarial examples under the wrong class that the source model finds "
    "most likely.",
    "transfer": "How many of D_det's examples fool each architecture, and how well it learns from "
    "D_det (Ilyas et al. 2019, figure 3).",
    "transfer_d_rand": "How many of D_rand's examples fool each architecture, and how well it learns from "
    "D_rand.",
    "bugs_only": "Learn from adversarial examples that fool no other network: the control that must "
    "not teach (Nakkiran 2019).",
    "leakage": "What robust linear features alone learn from D_rand (Goh 2019).",
    "leakage_d_det": "What robust linear features alone learn from D_det (Goh 2019).",
    "perturbation_on_noise": "Learn from noise, perturbed towards random labels (Kumano et al. 2024).",
    "robust_features": "Learn from images rebuilt from what a robust network keeps of them (Ilyas et al. "
    "2019, section 3.1).",
    "non_robust_features": "Learn from images rebuilt from what a standard network keeps of them (Ilyas et "
    "al. 2019, section 3.1).",
    "mislabeled": "Learn from real images under a weak source model's errors (Wallace, Distill 2019).",
    "cross_domain": "Learn one domain from images of another, under what the source model takes them for "
    "(Wallace 2019).",
    "label_noise": "Learn from real images of which a share has random wrong labels: a baseline.",
    "shuffled": "Learn from real images under permuted labels: the control that must not teach.",
    "distillation": "Learn from real images under the source model's probabilities: a baseline (Hinton et "
    "al. 2015).",
    "imported": "Learn from a finished data set, such as those that Ilyas et al. (2019) published.",
    "two_dimensional": "Learn from adversarial points of the plane under flipped labels (Wallace 2019).",
}

FLOWS: dict[RecipeName, Flow[..., Any]] = {
    recipe: _recipe_flow(recipe, summary) for recipe, summary in _SUMMARIES.items()
}

# A deployment names its flow as an attribute of this module.
for _name, _flow in FLOWS.items():
    globals()[_name] = _flow
