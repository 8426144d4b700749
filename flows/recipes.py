"""One flow a recipe: its parameters are a form in Prefect's user interface, its result a grid's rows."""

from functools import cache
from types import ModuleType
from typing import Annotated, Any

from prefect import Flow, State, flow
from pydantic import Field

from advfeat.errors import InputError
from advfeat.flows.endings import ended
from advfeat.flows.given import GPUsPerStage, Note, StagesAtOnce, StageTimeout, StoreURI, shown
from advfeat.flows.grid import run_grid
from advfeat.flows.result import RunResult
from advfeat.flows.run_names import named
from advfeat.flows.walk.ray_cluster import configured_runner
from advfeat.planning import RecipeName
from advfeat.planning.forms import GRIDS, Grid
from advfeat.planning.grid import check_grid, title_of
from advfeat.recipes import RECIPES, Recipe
from advfeat.recipes.shared.own import module_of_recipe

_GRID = "the values on each axis; one that is left empty has the value of the data set's preset"


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
        store: StoreURI = None,
        stages_at_once: StagesAtOnce = None,
        stage_timeout_seconds: StageTimeout = None,
        note: Note = None,
        gpus_per_stage: GPUsPerStage = None,
    ) -> RunResult | State[RunResult]:
        def work() -> RunResult:
            checked = check_grid(form, grid)
            return run_grid(
                identity, checked, store, stages_at_once, stage_timeout_seconds, note, gpus_per_stage
            )

        return ended(work)

    def title(parameters: dict[str, Any]) -> str | None:
        try:
            return title_of(name, check_grid(form, parameters.get("grid") or {}))
        except InputError:
            return None  # the run itself says what is wrong

    run.__name__ = run.__qualname__ = name  # where a deployment finds it in this module
    run.__doc__ = description
    run.__annotations__["grid"] = Annotated[form, Field(json_schema_extra=shown("Grid", _GRID))]
    if not any(field.is_required() for field in form.model_fields.values()):
        run.__defaults__ = (form(), *(run.__defaults__ or ()))
    return flow(
        name=name,
        description=description,
        flow_run_name=named(title),
        task_runner=configured_runner(),
        validate_parameters=False,
    )(run)


def _travels_with_tasks(module: ModuleType) -> None:
    """Let tasks on Ray know the form of a recipe of a file, as Prefect sends each the flow that it is of."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(module)


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
