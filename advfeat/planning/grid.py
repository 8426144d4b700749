"""Grids: one list of values an axis, and the experiments that they make, all combined or paired.

Each recipe has a form of its own, with the axes that mean something for it. Where an axis is empty, the
preset of the data set decides (``advfeat/planning/presets``).
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from math import prod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from advfeat.errors import InputError
from advfeat.planning.experiment_file import explained, load_experiment, parse_assignment
from advfeat.recipes import RECIPES
from advfeat.spec import Experiment, FinishedSet, ModelName, Noise, Norm, RecipeName, Seed, Spec

DataSet = Literal["digits", "mnist", "fashion-mnist", "cifar10"]
OtherData = Literal["photo-patches", "digits", "mnist", "fashion-mnist", "cifar10"]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
Value = bool | str | int | float

_LARGEST = 100_000
_STEPS_OF_ROBUST_TRAINING = 7
"""As of the published robust networks of Ilyas et al. 2019."""


def _at(position: int) -> dict[str, Any]:
    """Say where in Prefect's form a field stands, which would sort those with defaults by their names."""
    return {"position": position}


class Grid(Spec):
    """The axes that every recipe has, and how they are combined."""

    data: tuple[DataSet, ...] = Field(
        default=("digits",), min_length=1, description="data sets of real images", json_schema_extra=_at(0)
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2),
        min_length=1,
        description="one repetition a seed, whole numbers from 0; paired axes are repeated for each",
        json_schema_extra=_at(30),
    )
    combine: Literal["product", "paired"] = Field(
        default="product",
        description="product: every value with every other; paired: the first values together, then the "
        "second ones; an axis of one value goes with all",
        json_schema_extra=_at(31),
    )
    settings: tuple[str, ...] = Field(
        default=(),
        description="further settings for all experiments, as for advfeat run --set: attack.restarts=2",
        json_schema_extra=_at(32),
    )
    limit: int = Field(
        default=200,
        ge=1,
        le=_LARGEST,
        description="more experiments than this are refused before anything is computed",
        json_schema_extra=_at(33),
    )

    @field_validator("*")
    @classmethod
    def _values_are_unique(cls, values: Any) -> Any:
        if isinstance(values, tuple) and len(set(values)) != len(values):
            raise ValueError("names a value twice")
        return values


class TargetGrid(Grid):
    """The axes of recipes from which a target model learns."""

    target_model: tuple[ModelName, ...] = Field(
        default=(),
        description="architectures of the target models; of the data set's preset if none",
        json_schema_extra=_at(20),
    )
    target_epochs: tuple[Epochs, ...] = Field(
        default=(),
        description="epochs of the target models, 1 to 10,000; of the preset if none",
        json_schema_extra=_at(21),
    )


class SourceAxes(Grid):
    """The axes of source models."""

    source_model: tuple[ModelName, ...] = Field(
        default=(),
        description="architectures of the source models; of the data set's preset if none",
        json_schema_extra=_at(10),
    )
    source_epochs: tuple[Epochs, ...] = Field(
        default=(),
        description="epochs of the source models, 1 to 10,000; of the preset if none",
        json_schema_extra=_at(11),
    )
    source_eps: tuple[Annotated[float, Field(ge=0, le=1_000_000)], ...] = Field(
        default=(),
        description="train the source models on adversarial examples of themselves, at this L2 radius, "
        "pixels in [0, 1]; 0: on the images alone; of the preset if none",
        json_schema_extra=_at(16),
    )


class SourceGrid(TargetGrid, SourceAxes):
    """The axes of recipes that label images by a source model."""


class LeakageGrid(SourceAxes):
    """The axes of perturbed images, without those of a target model."""

    norm: tuple[Norm, ...] = Field(
        default=(), description="norms of the ball; of the preset if none", json_schema_extra=_at(12)
    )
    eps: tuple[Annotated[float, Field(gt=0, le=1_000_000)], ...] = Field(
        default=(),
        description="radii of the ball, above 0, pixels in [0, 1]; l0: how many values may change; of the "
        "preset if none",
        json_schema_extra=_at(13),
    )
    steps: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(
        default=(),
        description="gradient steps, 1 to 100,000; of the preset if none",
        json_schema_extra=_at(14),
    )


class PerturbedGrid(TargetGrid, LeakageGrid):
    """The axes of recipes that perturb images."""


class OnNoiseGrid(PerturbedGrid):
    """The axes of perturbations on noise."""

    noise: tuple[Noise, ...] = Field(
        default=(), description="pixels uniform in [0, 1], or Gaussian around 0.5", json_schema_extra=_at(15)
    )


class GuardedGrid(PerturbedGrid):
    """The axes of adversarial examples that must not transfer."""

    guards: tuple[Annotated[int, Field(ge=1, le=100)], ...] = Field(
        default=(),
        description="how many further source models they must not transfer to, 1 to 100; 4 if none",
        json_schema_extra=_at(15),
    )


class RebuiltGrid(TargetGrid):
    """The axes of images rebuilt from a representation."""

    source_epochs: tuple[Epochs, ...] = Field(
        default=(),
        description="epochs of the source models, 1 to 10,000; of the preset if none",
        json_schema_extra=_at(11),
    )
    rebuilding_steps: tuple[Annotated[int, Field(ge=1, le=100_000)], ...] = Field(
        default=(),
        description="gradient steps, 1 to 100,000; of the preset if none",
        json_schema_extra=_at(14),
    )


class CrossDomainGrid(SourceGrid):
    """The axes of images of another domain."""

    other_data: tuple[OtherData, ...] = Field(
        default=(),
        description="the images that the source models label; of the preset if none",
        json_schema_extra=_at(12),
    )
    normalized: tuple[bool, ...] = Field(
        default=(), description="whether they get the statistics of the data", json_schema_extra=_at(13)
    )
    balanced: tuple[bool, ...] = Field(
        default=(), description="whether as many are drawn of each label", json_schema_extra=_at(14)
    )


class ImportedGrid(TargetGrid):
    """The axes of data sets that are finished."""

    imported: tuple[FinishedSet, ...] = Field(
        min_length=1,
        description="where the data sets lie: torch:FOLDER-OR-URI (CIFAR_ims and CIFAR_lab), "
        "numpy:PATH-OR-URI or parquet:PATH-OR-URI",
        json_schema_extra=_at(10),
    )


class NoisyGrid(TargetGrid):
    """The axes of random labels among correct ones."""

    label_noise: tuple[Annotated[float, Field(ge=0, le=1)], ...] = Field(
        default=(),
        description="shares of the images under a random other label, 0 to 1; 0.4 if none",
        json_schema_extra=_at(10),
    )


class PlaneGrid(Grid):
    """The axes of points in the plane, in which data play no part."""

    data: tuple[Literal["digits"], ...] = Field(
        default=("digits",), min_length=1, max_length=1, description="plays no part", json_schema_extra=_at(0)
    )
    points: tuple[Annotated[int, Field(ge=8, le=1000)], ...] = Field(
        default=(), description="points in the unit square, 8 to 1,000; 32 if none", json_schema_extra=_at(10)
    )
    plane_eps: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        default=(),
        description="radii of the l-infinity ball, 0 to 1; 0.12 if none",
        json_schema_extra=_at(11),
    )


GRIDS: Mapping[RecipeName, type[Grid]] = {
    "clean": TargetGrid,
    "d_rand": PerturbedGrid,
    "d_det": PerturbedGrid,
    "least_likely": PerturbedGrid,
    "most_confused": PerturbedGrid,
    "transfer": PerturbedGrid,
    "transfer_d_rand": PerturbedGrid,
    "bugs_only": GuardedGrid,
    "leakage": LeakageGrid,
    "leakage_d_det": LeakageGrid,
    "perturbation_on_noise": OnNoiseGrid,
    "robust_features": RebuiltGrid,
    "non_robust_features": RebuiltGrid,
    "mislabeled": SourceGrid,
    "cross_domain": CrossDomainGrid,
    "label_noise": NoisyGrid,
    "shuffled": TargetGrid,
    "distillation": SourceGrid,
    "imported": ImportedGrid,
    "two_dimensional": PlaneGrid,
}

_FIELDS = {
    "norm": "attack.norm",
    "eps": "attack.eps",
    "steps": "attack.steps",
    "noise": "noise",
    "guards": "guards",
    "source_model": "{source}.model",
    "source_epochs": "{source}.epochs",
    "source_eps": "{source}.adversarial",
    "rebuilding_steps": "rebuilding.steps",
    "other_data": "other_data.source",
    "normalized": "cross_domain.normalized",
    "balanced": "cross_domain.balanced",
    "label_noise": "label_noise",
    "imported": "imported",
    "points": "two_dimensional.points",
    "plane_eps": "two_dimensional.eps",
    "target_model": "target.model",
    "target_epochs": "target.epochs",
}
"""The axes besides data and seeds, in the order of names, and the field of the experiment that each sets."""

AXES = ("data", *_FIELDS)
"""All axes but the seeds, in the order of names."""


class Point(BaseModel):
    """One experiment of a grid, of one recipe and one seed, and its place on the axes."""

    model_config = ConfigDict(frozen=True)

    axes: dict[str, Value]
    assignments: tuple[str, ...]

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment itself; raises ``InputError`` if there can be none."""
        return load_experiment(str(self.axes["data"]), self.assignments)

    @property
    def command(self) -> str:
        """The command that runs this experiment alone."""
        words = [word for assignment in self.assignments for word in ("--set", assignment)]
        return shlex.join(["advfeat", "run", str(self.axes["data"]), *words])


def recipe_named(name: str) -> RecipeName:
    """Return the recipe of this name; raises ``InputError``."""
    for recipe in GRIDS:
        if recipe == name:
            return recipe
    raise InputError("recipe", name, "is unknown", f"choose from {', '.join(GRIDS)}")


def load_grid(recipe: RecipeName, assignments: Sequence[str]) -> Grid:
    """Read assignments to axes, such as ``eps=[0.5,1.0]``, and to fields of all experiments, which have dots.

    A single value is an axis of one. Raises ``InputError`` for the first mistake.
    """
    form = GRIDS[recipe]
    fields: dict[str, Any] = {"settings": []}
    for assignment in assignments:
        name, value = parse_assignment(assignment)
        if "." in name:
            fields["settings"].append(assignment)
        elif name == "settings":
            fields["settings"] += value if isinstance(value, list) else [value]
        else:
            single = name not in ("combine", "limit") and not isinstance(value, list)
            fields[name] = [value] if single else value
    try:
        return form.model_validate(fields)
    except ValidationError as error:
        raise explained(error, form) from None


def points(recipe: RecipeName, grid: Grid) -> list[Point]:
    """Lay out the experiments of a grid, repeated for each seed.

    Raises ``InputError`` if there are more than the grid's limit, if paired axes do not fit, or if an
    experiment cannot be.
    """
    axes = _axes(grid)
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
        _point(recipe, dict(zip(axes, values, strict=True)), seed, grid.settings)
        for values in combinations
        for seed in grid.seeds
    ]


def axis_value(experiment: Experiment, recipe: RecipeName, axis: str) -> Value:
    """Return where an experiment stands on an axis, given or not."""
    if axis == "data":
        return experiment.data.source
    value: Any = experiment
    for name in _field(recipe, axis).split("."):
        if value is None:
            return "none"
        value = getattr(value, name)
    if axis == "source_eps":
        value = 0.0 if value is None else value.eps
    found: Value = value
    return found


def title_of(recipe: RecipeName, grid: Grid) -> str:
    """Say in a line what a grid runs: recipe, data, the values on its axes, seeds."""
    axes = grid.model_dump(exclude={"seeds", "combine", "settings", "limit"})
    seeds = f"{len(grid.seeds)} seed{'s' if len(grid.seeds) != 1 else ''}"
    shown = [_shown(name, values) for name, values in axes.items() if values]
    return " · ".join([recipe, *shown, seeds])


def _axes(grid: Grid) -> dict[str, tuple[Value, ...]]:
    """Return the axes that the grid has values on, data first."""
    axes: dict[str, tuple[Value, ...]] = {"data": grid.data}
    return axes | {name: getattr(grid, name) for name in _FIELDS if getattr(grid, name, ())}


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
        f"{_field(recipe, axis)}={json.dumps(_setting(axis, value))}"
        for axis, value in axes.items()
        if axis != "data"
    ]
    only = [f"recipes=[{recipe}]", f"seeds=[{seed}]"]
    point = Point(axes={**axes, "seed": seed}, assignments=(*settings, *assignments, *only))
    if own := point.experiment.only:  # it fails here or not at all
        remedy = "set the field itself, or an axis: a grid has one recipe"
        raise InputError("only", own, "is for experiments of several recipes", remedy)
    return point


def _setting(axis: str, value: Value) -> Any:
    """Return what a field is set to for a value on an axis."""
    if axis != "source_eps":
        return value
    return {"eps": value, "steps": _STEPS_OF_ROBUST_TRAINING, "random_start": True} if value else None


def _field(recipe: RecipeName, axis: str) -> str:
    source = RECIPES[recipe].source or "source"
    # The standard source is the robust one without its attack.
    return _FIELDS[axis].format(source="robust_source" if source == "standard_source" else source)


def _shown(name: str, values: Sequence[Any]) -> str:
    shown = (
        ", ".join(map(str, values)) if len(values) <= 3 else f"{values[0]} to {values[-1]} ({len(values)})"
    )
    return (
        shown
        if name in ("data", "norm", "source_model", "target_model", "imported")
        else f"{name.replace('_', ' ')} {shown}"
    )
