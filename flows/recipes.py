"""One flow a recipe: its parameters are a form in Prefect's user interface, its result a grid's rows."""

import os
from functools import cache
from types import ModuleType
from typing import Any

from prefect import Flow, State, flow
from prefect.runtime import flow_run

from advfeat.errors import InputError
from advfeat.flows.experiment import Note, StageTimeout
from advfeat.flows.grid import StagesAtOnce, run_grid
from advfeat.flows.result import RunResult
from advfeat.flows.walk.ray_cluster import configured_runner
from advfeat.planning import RecipeName
from advfeat.planning.forms import GRIDS, Grid
from advfeat.planning.grid import title_of
from advfeat.recipes import RECIPES, Recipe
from advfeat.recipes.shared.own import module_of_recipe

_ARGUMENTS = """
Args:
    grid: The values on each axis; those left empty are of the data set's preset.
    store: Folder or fsspec URI of the store; that of ADVFEAT_STORE where the flow runs if unset.
    stages_at_once: How many stages are computed at the same time; as many as fit if unset.
    stage_timeout_seconds: Seconds after which a stage is given up; never if unset.
    note: What you say of the run, for `advfeat runs`.
"""
"""Prefect shows these beside the fields of its form."""


def _recipe_flow(recipe: Recipe[Any]) -> Flow[..., Any]:
    name, identity, form, description = (
        recipe.name,
        recipe.identity,
        GRIDS[recipe.identity],
        recipe.description,
    )

    if (module := module_of_recipe(identity)) is not None:
        _travels_with_tasks(module)

    def run(
        grid: Grid,
        store: str | None = None,
        stages_at_once: StagesAtOnce = None,
        stage_timeout_seconds: StageTimeout = None,
        note: Note = None,
    ) -> RunResult | State[RunResult]:
        return run_grid(identity, grid, _store(store), stages_at_once, stage_timeout_seconds, note)

    def name_of_run() -> str:
        return title_of(name, form.model_validate(flow_run.get_parameters().get("grid") or {}))

    run.__name__ = run.__qualname__ = name  # where a deployment finds it in this module
    run.__doc__ = f"{description}\n{_ARGUMENTS}"
    run.__annotations__["grid"] = form
    if not any(field.is_required() for field in form.model_fields.values()):
        run.__defaults__ = (form(), *(run.__defaults__ or ()))
    return flow(
        name=name, description=description, flow_run_name=name_of_run, task_runner=configured_runner()
    )(run)


def _travels_with_tasks(module: ModuleType) -> None:
    """Let tasks on Ray know the form of a recipe of a file, as Prefect sends each the flow that it is of."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)


def _store(uri: str | None) -> str:
    found = uri or os.environ.get("ADVFEAT_STORE")
    if not found:
        raise InputError("store", uri, "is not a store", "give a URI, or set ADVFEAT_STORE where flows run")
    return found


class _Flows(dict[RecipeName, Flow[..., Any]]):
    """Flows by the names of recipes; that of a recipe of a file is made when it is first asked for."""

    def __missing__(self, name: RecipeName) -> Flow[..., Any]:
        return _flow_of_file(RECIPES[name].identity)


@cache
def _flow_of_file(recipe: RecipeName) -> Flow[..., Any]:
    return _recipe_flow(RECIPES[recipe])


FLOWS = _Flows({name: _recipe_flow(recipe) for name, recipe in RECIPES.items()})

# A deployment names its flow as an attribute of this module.
for _name, _flow in FLOWS.items():
    globals()[_name] = _flow
