"""Experiments that come with the package: presets to start from, and reproductions of the whole discussion.

A file may build on a preset. What it says of single recipes (``only``) yields to what is set later for all
recipes, and is left out for recipes that are not run: a user who starts from it did not say it.
"""

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import resources
from typing import Any, NamedTuple

from advfeat.planning.own_settings import merged
from advfeat.planning.plain_text import read_yaml

_PRESETS, _REPRODUCTIONS = "advfeat.planning.presets", "advfeat.planning.reproductions"

Path = tuple[str, ...]


class Start(NamedTuple):
    """What an experiment starts from, as plain fields."""

    fields: dict[str, Any]
    only: dict[str, dict[str, Any]]
    """What it says of single recipes."""

    def with_fields(self, later: dict[str, Any]) -> "Start":
        """Return it with fields that are set later in place of its own."""
        return Start(merged(self.fields, later), self.without(_leaves(later)).only)

    def without(self, paths: Iterable[Path]) -> "Start":
        """Return it without what it says of single recipes about these fields."""
        only = self.only
        for path in paths if only else ():
            only = {recipe: _dropped(own, path) for recipe, own in only.items()}
        return Start(self.fields, only)

    def of_recipes(self, recipes: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what is left to say of single recipes, of those that are run."""
        named = set(recipes)
        return {recipe: own for recipe, own in self.only.items() if own and recipe in named}


def preset_names() -> list[str]:
    """List the presets that come with the package."""
    return list(_names(_PRESETS))


def preset_summaries() -> dict[str, str]:
    """Return what each preset is, in a line, by its name."""
    texts = {name: _text(_PRESETS, name) for name in preset_names()}
    return {name: text.partition("\n")[0].removeprefix("# ") for name, text in texts.items()}


def reproduction_names() -> list[str]:
    """List the settings in which all experiments can be reproduced."""
    return list(_names(_REPRODUCTIONS))


def preset(name: str) -> Start:
    """Read one of the presets."""
    return _read(_PRESETS, name)


def reproduction(name: str) -> Start:
    """Read one of the reproductions."""
    return _read(_REPRODUCTIONS, name)


def _read(package: str, name: str) -> Start:
    content: dict[str, Any] = read_yaml(_text(package, name))
    below, only = content.pop("preset", None), content.pop("only", {})
    if below is None:
        return Start(content, only)
    start = preset(below).with_fields(content)
    return Start(start.fields, merged(start.only, only))


def _leaves(fields: Mapping[str, Any], prefix: Path = ()) -> Iterator[Path]:
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _leaves(value, (*prefix, name))
        else:
            yield (*prefix, name)


def _dropped(fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return fields without the one at a path, and without what then holds none."""
    name, *further = path
    if name not in fields:
        return fields
    rest = {other: value for other, value in fields.items() if other != name}
    inner = fields[name]
    if further and isinstance(inner, dict):
        inner = _dropped(inner, tuple(further))
        return {**rest, name: inner} if inner else rest
    return rest


@cache
def _names(package: str) -> tuple[str, ...]:
    files = resources.files(package).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


@cache
def _text(package: str, name: str) -> str:
    return resources.files(package).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
