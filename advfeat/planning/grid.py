"""Grids: one list of values an axis, and the experiments that they make, all combined or paired.

Where an axis is empty, the preset of the data set decides (``advfeat/planning/presets``).
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cache, cached_property, partial
from itertools import chain, product
from math import prod
from operator import not_
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from advfeat.data.read_once import once
from advfeat.errors import InputError
from advfeat.planning.experiment import Experiment, RecipeName
from advfeat.planning.experiment_file import (
    assigned_field,
    explained,
    is_text,
    load_experiment,
    parse_assignment,
)
from advfeat.planning.forms import GRIDS, Grid, Value, axes_of
from advfeat.planning.packaged import preset, preset_names
from advfeat.recipes import RECIPES, plain_name
from advfeat.recipes.shared.own import names_any_content

_STEPS_OF_ROBUST_TRAINING = 7
"""As of the published robust networks of Ilyas et al. 2019."""


class Point(BaseModel):
    """One experiment of a grid, of one recipe and one seed, and its place on the axes."""

    model_config = ConfigDict(frozen=True)

    axes: dict[str, Value]
    assignments: tuple[str, ...]
    preset: str = Field(default="", exclude_if=not_)
    """The preset that it starts from, where its images are others than those that are named as it is."""

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment itself; raises ``InputError`` if there can be none, or for files of any content."""
        if self._start not in preset_names():
            raise InputError("preset", self._start, "is not a preset", "run the grid again")
        naming = (each for each in self.assignments if assigned_field(each) in ("recipes", "only"))
        for assignment in naming:
            name, value = parse_assignment(assignment, lambda _: False)
            if isinstance(value, list | dict) and any(map(names_any_content, value)):
                raise InputError(name, value, "names a file without its content", "run the grid again")
        found = load_experiment(self._start, self.assignments)
        return found.of(found.recipes[0]) if found.only else found

    @property
    def command(self) -> str:
        """The command that runs this experiment alone."""
        words = [word for assignment in self.assignments for word in ("--set", assignment)]
        return shlex.join(["advfeat", "run", self._start, *words])

    @property
    def _start(self) -> str:
        return self.preset or str(self.axes["data"])


def load_grid(recipe: RecipeName, assignments: Sequence[str]) -> Grid:
    """Read assignments to axes, such as ``eps=[0.5,1.0]``, and to fields of all experiments, which have dots.

    A single value is an axis of one. An axis is given once; of two values of a field with dots the last one
    holds. Raises ``InputError`` for the first mistake.
    """
    form = GRIDS[recipe]
    fields: dict[str, Any] = {"settings": []}
    for assignment in assignments:
        name, value = parse_assignment(assignment, partial(_holds_texts, form))
        if name in fields and name != "settings":
            raise InputError(name, value, "is given a second time", f"give its values in one: {name}=[A,B]")
        if "." in name:
            fields["settings"].append(assignment)
        elif name == "settings":
            fields["settings"] += value if isinstance(value, list) else [value]
        else:
            single = name not in ("images", "combine", "limit") and not isinstance(value, list)
            fields[name] = [value] if single else value
    return check_grid(form, fields)


def check_grid(form: type[Grid], fields: object) -> Grid:
    """Validate plain fields of a grid; raises ``InputError`` for the first mistake."""
    try:
        return form.model_validate(fields)
    except ValidationError as error:
        raise explained(error, form) from None


def _holds_texts(form: type[Grid], name: str) -> bool:
    """Tell whether an axis is one of texts, such as the places of data sets."""
    field = form.model_fields.get(name)
    return field is not None and any(map(is_text, get_args(field.annotation)[:1]))


def points(recipe: RecipeName, grid: Grid) -> list[Point]:
    """Lay out the experiments of a grid, repeated for each seed; within ``read_once`` once.

    Raises ``InputError`` if there are more than the grid's limit, if paired axes do not fit, or if an
    experiment cannot be.
    """
    return list(once(("points", recipe, grid), lambda: _points(recipe, grid)))


def _points(recipe: RecipeName, grid: Grid) -> list[Point]:
    axes = _axes(recipe, grid)
    if (source := _own_source(grid)) is not None and len(grid.data) > 1:
        problem, remedy = "names several, and data.source is set for all", "name one, whose settings hold"
        raise InputError("data", list(grid.data), f"{problem}: {source}", remedy)
    count = len(grid.seeds) * _count(axes, grid.combine)
    if count > grid.limit:
        raise InputError(
            "grid",
            " x ".join(f"{len(values)} {axis}" for axis, values in {**axes, "seeds": grid.seeds}.items()),
            f"makes {count:,} experiments, the limit is {grid.limit:,}",
            "shorten an axis or raise the limit",
        )
    combinations = (
        zip(*_stretched(axes), strict=True) if grid.combine == "paired" else product(*axes.values())
    )
    return [
        _point(recipe, dict(zip(axes, values, strict=True)), seed, grid.assignments)
        for values in combinations
        for seed in grid.seeds
    ]


def axis_value(experiment: Experiment, recipe: RecipeName, axis: str) -> Value:
    """Return where an experiment stands on an axis, given or not."""
    if axis == "data":
        return experiment.data.source
    # Where an axis plays no part in a recipe, the experiment has a value all the same.
    axes = chain(axes_of(RECIPES[experiment.named(recipe)]), *map(axes_of, RECIPES.values()))
    value: Any = experiment
    field = next((entry.field for entry in axes if entry.name == axis), None)
    if field is None:  # of another recipe of the user's own
        return "none"
    if field.partition(".")[0] not in type(experiment).model_fields:
        # Of a recipe of the user's own, which presets know nothing of.
        value = RECIPES[experiment.named(recipe)].settings()
    for name in field.split("."):
        if value is None:
            return "none"
        value = getattr(value, name)
    if axis == "source_eps":
        value = 0.0 if value is None else value.eps
    found: Value = value
    return found


def values_of_presets(recipe: RecipeName, axis: str) -> str:
    """Say what the presets have on an axis, ``1.5 (digits), 2.0 (mnist)``; nothing where it plays no part."""
    presets: dict[str, list[str]] = {}
    for name in get_args(_data_of(recipe)):
        value = axis_value(_in_preset(name, recipe), recipe, axis)
        presets.setdefault(value if isinstance(value, str) else json.dumps(value), []).append(name)
    if len(presets) == 1:
        (only,) = presets
        return "" if only in ("null", "none") else only
    return ", ".join(f"{value} ({', '.join(names)})" for value, names in presets.items())


def _data_of(recipe: RecipeName) -> Any:
    """Return the type of a grid's data, one of some names."""
    return get_args(GRIDS[recipe].model_fields["data"].annotation)[0]


@cache
def _preset(name: str) -> Experiment:
    return load_experiment(name)


def _in_preset(name: str, recipe: RecipeName) -> Experiment:
    """Return a preset as it is for a recipe, of which it may say something alone."""
    if recipe in preset(name).only:
        return load_experiment(name, [f"recipes=[{recipe}]"]).of(recipe)
    return _preset(name)


def title_of(recipe: RecipeName, grid: Grid) -> str:
    """Say in a line what a grid runs: recipe, data, the values on its axes, seeds."""
    axes = grid.model_dump(exclude={"images", "seeds", "combine", "settings", "limit"})
    if (source := _own_source(grid)) is not None:
        axes["data"] = (source,)
    seeds = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) != 1 else ''}"
    shown = [_shown(name, values) for name, values in axes.items() if values]
    return " · ".join([plain_name(recipe), *shown, seeds])


def _own_source(grid: Grid) -> str | None:
    """Return the images that the settings of a grid name in place of those of the preset."""
    given = (parse_assignment(setting, lambda _: True) for setting in grid.assignments)
    named = [source for name, source in given if name == "data.source"]
    return str(named[-1]) if named else None


def _axes(recipe: RecipeName, grid: Grid) -> dict[str, tuple[Value, ...]]:
    """Return the axes that the grid has values on, data first."""
    given = ((axis.name, getattr(grid, axis.name)) for axis in axes_of(RECIPES[recipe]))
    return {"data": grid.data, **{name: values for name, values in given if values}}


def _count(axes: Mapping[str, tuple[Value, ...]], combine: str) -> int:
    lengths = [len(values) for values in axes.values()]
    return prod(lengths) if combine == "product" else max(lengths)


def _stretched(axes: Mapping[str, tuple[Value, ...]]) -> list[tuple[Value, ...]]:
    """Repeat axes of one value to the length of the others, which must be one length."""
    longest = max(len(values) for values in axes.values())
    for axis, values in axes.items():
        if len(values) not in (1, longest):
            raise InputError(
                axis,
                list(values),
                f"has {len(values)} values, other paired axes have {longest}",
                "give each paired axis as many values, or one",
            )
    return [values * (longest if len(values) == 1 else 1) for values in axes.values()]


def _point(recipe: RecipeName, axes: dict[str, Value], seed: int, settings: tuple[str, ...]) -> Point:
    assignments = [
        f"{axis.field}={json.dumps(_setting(axis.name, axes[axis.name]))}"
        for axis in axes_of(RECIPES[recipe])
        if axis.name in axes
    ]
    only = [f"recipes=[{recipe}]", f"seeds=[{seed}]"]
    _check_given_once(settings)
    point = Point(axes={**axes, "seed": seed}, assignments=(*settings, *assignments, *only))
    if (source := point.experiment.data.source) != axes["data"]:
        point = point.model_copy(update={"axes": {**point.axes, "data": source}, "preset": str(axes["data"])})
    _check_axes_count(recipe, axes, point.experiment)
    return point


def _check_axes_count(recipe: RecipeName, axes: Mapping[str, Value], experiment: Experiment) -> None:
    """Raise ``InputError`` for an axis of a source model's training where weights stand in its place."""
    if (role := RECIPES[recipe].source) is None:
        return
    weights = getattr(experiment, role).weights
    for axis in ("source_epochs", "source_eps"):
        if weights is not None and axis in axes:
            problem = "is of a training, and the source model is one of weights"
            raise InputError(axis, axes[axis], problem, f"leave it out, or {role}.weights")


def _check_given_once(settings: Sequence[str]) -> None:
    """Raise ``InputError`` for a setting that would be lost, as every grid says what it is."""
    for setting in settings:
        name = assigned_field(setting)
        if name.partition(".")[0] == "only" and parse_assignment(setting, lambda _: False)[1] != {}:
            remedy = "set the field itself, or an axis: a grid has one recipe"
            raise InputError("only", setting, "is for experiments of several recipes", remedy)
        if name in ("recipes", "seeds"):
            remedy = "name the recipe of the grid, and its seeds as an axis: seeds=[0,1]"
            raise InputError("settings", setting, f"sets {name}, which the grid sets itself", remedy)


def _setting(axis: str, value: Value) -> Any:
    """Return what a field is set to for a value on an axis."""
    if axis != "source_eps":
        return value
    return {"eps": value, "steps": _STEPS_OF_ROBUST_TRAINING, "random_start": True} if value else None


def _shown(name: str, values: Sequence[Any]) -> str:
    shown = (
        ", ".join(map(str, values)) if len(values) <= 3 else f"{values[0]} to {values[-1]} ({len(values)})"
    )
    return (
        shown
        if name in ("data", "norm", "schedule", "source_model", "target_model", "imported")
        else f"{name.replace('_', ' ')} {shown}"
    )
