"""The pages of what a user may set, from the pydantic models themselves: type, default, bounds, meaning."""

import json
from collections.abc import Iterable, Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from advfeat.planning import Experiment
from advfeat.planning.forms import GRIDS
from advfeat.recipes import RECIPES
from website.recipes import page_of

_BOUNDS = {
    annotated_types.Gt: ">\u00a0{0.gt:,}",
    annotated_types.Ge: "≥\u00a0{0.ge:,}",
    annotated_types.Lt: "<\u00a0{0.lt:,}",
    annotated_types.Le: "≤\u00a0{0.le:,}",
    annotated_types.MinLen: "at least {0.min_length:,}",
    annotated_types.MaxLen: "at most {0.max_length:,}",
}
_HEAD = "| field | takes | default | meaning |\n|---|---|---|---|\n"


def fields_page() -> str:
    """Return the fields of an experiment and of all that it holds, one table a model."""
    text = (
        "# Fields of an experiment\n\n"
        "What a YAML file, `--set FIELD=VALUE` and the form in the Prefect UI may set. Pixels are in [0, 1], "
        "eps and step sizes in the same units. A field of an inner table is named with a dot, as in "
        "`attack.eps`. A default holds where neither you nor the preset give a value.\n"
    )
    for model in reachable(Experiment):
        text += f"\n## {model.__name__} {{#advfeat.spec.{model.__name__}}}\n\n{_first_line(model)}\n\n"
        text += _table(model.model_fields.items())
    return text


def axes_page() -> str:
    """Return the axes of the grids, and which recipe has which."""
    forms = dict.fromkeys(GRIDS.values())
    names = dict.fromkeys(name for form in forms for name in form.model_fields)
    text = (
        "# Axes of a grid\n\n"
        "An axis is a list of values; a grid is every combination of them, or with `combine=paired` the "
        "first values, the second ones and so on. Fields of an experiment that are no axis go into "
        "`settings`.\n\n"
    )
    described = {name: next(f.model_fields[name] for f in forms if name in f.model_fields) for name in names}
    text += (
        _table(described.items())
        + "\n## Which recipe has which\n\n| recipe | learns from | axes |\n|---|---|---|\n"
    )
    for recipe, form in GRIDS.items():
        axes = ", ".join(f"`{name}`" for name in form.model_fields if name not in _FORM_ALONE)
        page = f"../../docs/recipes/{page_of(recipe)}.md"
        text += f"| [`{recipe}`]({page}) | {RECIPES[recipe].summary} | {axes} |\n"
    return text + "\n## In Python\n\n::: advfeat.planning.grid\n\n::: advfeat.planning.forms\n"


_FORM_ALONE = {"images", "combine", "settings", "limit"}


def reachable(model: type[BaseModel]) -> dict[type[BaseModel], None]:
    """Return a model and those that its fields hold, each once, in the order they are met."""
    found: dict[type[BaseModel], None] = {model: None}
    for field in model.model_fields.values():
        for inner in _models_in(field.annotation):
            found |= {one: None for one in reachable(inner) if one not in found}
    return found


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models_in(inner)


def _first_line(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").strip().splitlines()[0]


def _table(fields: Iterable[tuple[str, FieldInfo]]) -> str:
    rows = "".join(
        f"| `{name}` | {', '.join([_type(field.annotation), *_bounds(field)])} | {_default(field)} "
        f"| {_cell(field.description or '')} |\n"
        for name, field in fields
    )
    return f'<div class="fields" markdown>\n\n{_HEAD}{rows}\n</div>\n'


def _type(annotation: Any) -> str:
    """Say in words what a field takes; models are links to their tables."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(_type(one) for one in inner if one is not NoneType)
    if origin is Literal:
        return ", ".join(f"`{json.dumps(one) if isinstance(one, bool) else one}`" for one in inner)
    if origin is dict:
        return "fields by name"
    if origin is tuple:
        return f"list: {_type(inner[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](spec.md#advfeat.spec.{annotation.__name__})"
    return {int: "whole number", float: "number", bool: "`true`, `false`", str: "text"}[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default in (None, (), {}):
        return "unset"
    if isinstance(field.default, BaseModel):
        return "its own defaults"
    values = field.default if isinstance(field.default, tuple) else (field.default,)
    return ", ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in values)


def _bounds(field: FieldInfo) -> list[str]:
    """Say between what the value lies, and for lists also each entry."""
    own = _constraints(field.metadata)
    entries = [
        f"each {bound}" if get_origin(_without_none(field.annotation)) is tuple else bound
        for metadata in _inner_metadata(field.annotation)
        for bound in _constraints(metadata)
    ]
    return own + entries


def _without_none(annotation: Any) -> Any:
    inner = [one for one in get_args(annotation) if one is not NoneType]
    return inner[0] if get_origin(annotation) in (Union, UnionType) else annotation


def _inner_metadata(annotation: Any) -> Iterator[list[Any]]:
    if get_origin(annotation) is Annotated:
        for one in get_args(annotation)[1:]:
            yield list(one.metadata) if isinstance(one, FieldInfo) else [one]
    for inner in get_args(annotation):
        if isinstance(inner, type) or get_origin(inner) is not None:
            yield from _inner_metadata(inner)


def _constraints(metadata: Iterable[Any]) -> list[str]:
    return [_BOUNDS[type(one)].format(one) for one in metadata if type(one) in _BOUNDS]


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("[", r"\[").replace("*", r"\*").replace("_", r"\_")
