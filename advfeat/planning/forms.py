"""The form of a grid: which axes a recipe has, told from what it says of itself.

Every form is a pydantic model: a form in Prefect's user interface, and what ``advfeat grid`` reads.
"""

import logging
import re
from collections.abc import Callable, Mapping
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, Field, create_model, field_validator

from advfeat.errors import InputError
from advfeat.planning.experiment import with_settings_of
from advfeat.recipes import RECIPES, Axis, Recipe
from advfeat.spec import NETWORKS, Seed, Spec, unset

logger = logging.getLogger(__name__)

Value = bool | str | int | float

_LARGEST = 100_000
_OWN_AXES = 16
"""Where in a form a recipe's own axes begin."""


def _at(position: int, title: str | None = None) -> dict[str, Any]:
    """Say where in Prefect's form a field stands, and what it is called there if not by its name."""
    return {"position": position} | ({} if title is None else {"title": title})


def _shown(position: int, axis: Axis, recipe: Recipe[Any]) -> Callable[[dict[str, Any]], None]:
    """Return what Prefect's form is told of an axis besides: its place, and what presets have there."""

    def tell(schema: dict[str, Any]) -> None:
        from advfeat.planning.grid import values_of_presets  # which is made of forms

        told = values_of_presets(recipe.identity, axis.name)
        schema |= _at(position, _TITLES.get(axis.name))
        if told:
            schema["description"] = f"{_IF_NONE.sub('', axis.description)}; left empty: {told}"

    return tell


_IF_NONE = re.compile(r"; [^;]* if none$")
_TITLES = {
    "eps": "Radius (eps)",
    "schedule": "Schedule of the steps",
    "source_eps": "Radius (eps) of robust source models",
}


def _own_images(schema: dict[str, Any]) -> None:
    """Show the field of the user's own images as one of text that is left empty, not as a choice of types."""
    del schema["anyOf"], schema["default"]
    schema |= {"type": "string", "minLength": 1, **_at(1, "Own images")}


class Grid(Spec):
    """The axes that every recipe has, and how they are combined."""

    data: tuple[Literal["digits", "mnist", "fashion-mnist", "cifar10"], ...] = Field(
        default=("digits",), min_length=1, description="data sets of real images", json_schema_extra=_at(0)
    )
    images: str | None = Field(
        default=None,
        min_length=1,
        description="your own images in place of those of data, whose preset holds for all else: "
        "folder:PATH, parquet:PATH-OR-URI, numpy:PATH-OR-URI, restricted-imagenet:PATH or FILE.py:FUNCTION",
        exclude_if=unset,
        json_schema_extra=_own_images,
    )
    seeds: tuple[Seed, ...] = Field(
        default=(0, 1, 2),
        min_length=1,
        description="one repetition per seed, whole numbers from 0; paired axes are repeated for each",
        json_schema_extra=_at(60),
    )
    combine: Literal["product", "paired"] = Field(
        default="product",
        description="product: every value with every other; paired: the first values together, then the "
        "second ones; an axis of one value goes with all",
        json_schema_extra=_at(61),
    )
    settings: tuple[str, ...] = Field(
        default=(),
        description="further settings for all experiments, as for advfeat run --set: attack.restarts=2",
        json_schema_extra=_at(62),
    )
    limit: int = Field(
        default=200,
        ge=1,
        le=_LARGEST,
        description="more experiments than this are refused before anything is computed",
        json_schema_extra=_at(63),
    )

    @property
    def assignments(self) -> tuple[str, ...]:
        """The settings of all experiments, the user's own images among them."""
        return self.settings if self.images is None else (f"data.source={self.images}", *self.settings)

    @field_validator("*")
    @classmethod
    def _values_are_unique(cls, values: Any) -> Any:
        if isinstance(values, tuple) and len(set(values)) != len(values):
            raise ValueError("names a value twice")
        return values


_ATTACK = {
    12: Axis("norm", "attack.norm", "norms of the ball; of the preset if none"),
    13: Axis(
        "eps",
        "attack.eps",
        "radii of the ball, above 0, pixels in [0, 1]; l0: how many values may change; of the preset if none",
    ),
    14: Axis("steps", "attack.steps", "gradient steps, 1 to 100,000; of the preset if none"),
    15: Axis(
        "schedule", "attack.schedule", "lengths of the steps: constant, cosine, apgd; of the preset if none"
    ),
}
_TARGET = {
    50: Axis(
        "target_model",
        "target.model",
        f"target models: {NETWORKS}; of the preset if none",
    ),
    51: Axis(
        "target_epochs", "target.epochs", "epochs of the target models, 1 to 10,000; of the preset if none"
    ),
}
"""By their positions in a form."""


def _source_axes(recipe: Recipe[Any]) -> dict[int, Axis]:
    """Return the axes of a recipe's source models; of robust ones, which are costly, their epochs alone."""
    if recipe.source is None:
        return {}
    # The standard source is the robust one without its attack.
    field = "robust_source" if recipe.source == "standard_source" else recipe.source
    epochs = Axis(
        "source_epochs", f"{field}.epochs", "epochs of the source models, 1 to 10,000; of the preset if none"
    )
    if field == "robust_source":
        return {11: epochs}
    model = Axis(
        "source_model",
        f"{field}.model",
        f"source models: {NETWORKS}; of the preset if none",
    )
    eps = Axis(
        "source_eps",
        f"{field}.adversarial",
        "train the source models on adversarial examples of themselves, at this L2 radius, pixels in "
        "[0, 1]; 0: on the images alone; of the preset if none",
        values=Annotated[float, Field(ge=0, le=1_000_000)],
    )
    return {10: model, 11: epochs, 40: eps}


def axes_of(recipe: Recipe[Any]) -> tuple[Axis, ...]:
    """Return all axes of a recipe but data and seeds.

    Their order is that of the assignments of a point, which the digest of a grid's report holds.
    """
    source, attack, own, target = (axes.values() for axes in _axes_by_position(recipe))
    return (*attack, *own, *source, *target) if recipe.attacks else (*source, *own, *target)


def _axes_by_position(recipe: Recipe[Any]) -> tuple[dict[int, Axis], ...]:
    """Return the axes of source models, attack, the recipe itself, and target models."""
    return (
        _source_axes(recipe),
        _ATTACK if recipe.attacks else {},
        dict(enumerate(recipe.axes, start=_OWN_AXES)),
        _TARGET if recipe.learner == "network" else {},
    )


def _form(recipe: Recipe[Any]) -> type[Grid]:
    source, attack, own, target = _axes_by_position(recipe)
    # The title of a grid names its axes in this order, and the digest of its report holds the title.
    first = {} if recipe.source in ("robust_source", "standard_source") else source
    fields: dict[str, Any] = {}
    _check_axes(recipe)
    for position, axis in (first | attack | target | source | own).items():
        wanted = {"min_length": 1} if axis.required else {"default": ()}
        fields[axis.name] = (
            tuple[axis.values or _type_of(axis.field, recipe), ...],  # type: ignore[misc]  # made as it runs
            Field(**wanted, description=axis.description, json_schema_extra=_shown(position, axis, recipe)),
        )
    if recipe.learner == "network in the plane":
        of_no_part = Field(
            default=("digits",),
            min_length=1,
            max_length=1,
            description="not used",
            json_schema_extra=_at(0),
        )
        fields["data"] = (tuple[Literal["digits"], ...], of_no_part)
    name = "".join(word.capitalize() for word in recipe.name.split("_"))
    return create_model(
        f"{name}Grid",
        __base__=Grid,
        __module__=__name__,
        __doc__=f"The axes of {recipe.name}, and how they are combined.",
        **fields,
    )


def _check_axes(recipe: Recipe[Any]) -> None:
    """Raise ``InputError`` for an axis whose values would be another one's, or be lost."""
    names = [axis.name for axis in axes_of(recipe)]
    for axis in recipe.axes:
        if not axis.name.isidentifier():
            problem, remedy = (
                f"has an axis {axis.name!r}, which is not a name",
                "use small letters, digits and _",
            )
        elif axis.name in (*Grid.model_fields, "seed") or names.count(axis.name) > 1:
            problem, remedy = f"has an axis {axis.name!r}, and so has its grid", "give its axis another name"
        else:
            continue
        raise InputError("recipes", recipe.identity, problem, remedy)


def _type_of(field: str, recipe: Recipe[Any]) -> Any:
    """Return the type of an experiment's field, with its bounds."""
    model: type[BaseModel] = with_settings_of([recipe.identity])
    *parents, last = field.split(".")
    try:
        for parent in parents:
            inner = _without_none(model.model_fields[parent].annotation)
            assert issubclass(inner, BaseModel), f"{parent} of {field} holds no fields"
            model = inner
        found = model.model_fields[last]
    except (KeyError, AssertionError, ValueError):
        problem = f"has an axis of {field!r}, which is not a field of an experiment"
        raise InputError(
            "recipes", recipe.identity, problem, "name a field, its own or such as attack.eps"
        ) from None
    annotation = _without_none(found.annotation)
    kind = get_origin(annotation) or annotation
    if isinstance(kind, type) and not issubclass(kind, (bool, str, int, float, UnionType)):
        problem = f"has an axis of {field!r}, which is not a single number or text"
        raise InputError("recipes", recipe.identity, problem, "name a part of it, or another field")
    return Annotated[(annotation, *found.metadata)] if found.metadata else annotation


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        others = [one for one in get_args(annotation) if one is not NoneType]
        return others[0] if len(others) == 1 else annotation
    return annotation


class _Forms(dict[str, type[Grid]]):
    """Forms by the names of recipes; that of a recipe of a file is made when it is first asked for."""

    def __missing__(self, name: str) -> type[Grid]:
        recipe = RECIPES[name]
        is_installed = RECIPES.get(recipe.name) is recipe and recipe.name in self
        return self[recipe.name] if is_installed else _form_of_file(recipe.identity)


@cache
def _form_of_file(recipe: str) -> type[Grid]:
    return _form(RECIPES[recipe])


def _forms() -> _Forms:
    found = _Forms()
    for name, recipe in list(RECIPES.items()):
        try:
            found[name] = _form(recipe)
        except InputError as error:
            logger.warning("recipe %r is left out: %s", name, error)
            del RECIPES[name]
    return found


GRIDS: Mapping[str, type[Grid]] = _forms()
"""The form of each recipe."""


def _all_axes() -> dict[str, None]:
    """Return the names of all axes: of attacks and recipes that attack, sources, other recipes, targets."""
    recipes = [(recipe, _axes_by_position(recipe)) for recipe in RECIPES.values()]
    of_attacks = [axes for recipe, axes in recipes if recipe.attacks]
    of_others = [axes for recipe, axes in recipes if not recipe.attacks]
    every = [axes for _, axes in recipes]
    groups = ((1, every), (2, of_attacks), (0, every), (2, of_others), (3, every))
    return {axis.name: None for part, some in groups for axes in some for axis in axes[part].values()}


AXES = ("data", *_all_axes())
"""All axes but the seeds, in the order in which tables have them."""
