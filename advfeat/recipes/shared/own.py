"""Recipes of the user's own: a ``FILE.py`` named in an experiment, and those that are installed.

An experiment and its digests call such a recipe by its name and its file's content, so that another file
is another recipe: ``mirrored.py@0123456789abcdef``, or ``mirrored@0123456789abcdef`` where it is installed.
"""

import keyword
import logging
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import PurePath
from types import ModuleType
from typing import Any

from advfeat.errors import InputError
from advfeat.extensions.functions import (
    OwnFunction,
    Refused,
    is_provided,
    member_of,
    module_of,
    provided,
    read_code,
)
from advfeat.recipes.shared.answers import with_checked_answers
from advfeat.recipes.shared.declared import check_declared
from advfeat.recipes.shared.recipe import Recipe

logger = logging.getLogger(__name__)

GROUP = "advfeat.recipes"
"""The group of entry points in which a distribution names its recipes."""

FILES = "ADVFEAT_RECIPES"
"""The environment variable that names files of recipes, with the system's separator of paths between them."""

_FILE = re.compile(r"(?P<path>[^\0]+\.py)(?P<version>@[0-9a-f]{16})?")
_NAME = re.compile(r"[a-z][a-z0-9_]{0,79}")
_CONSTANT = "RECIPE"


def names_file(recipe: object) -> bool:
    """Tell whether a recipe is named by its file."""
    return isinstance(recipe, str) and _FILE.fullmatch(recipe) is not None


def names_any_content(recipe: object) -> bool:
    """Tell whether a recipe is a file whatever it holds; a store that names one is no reason to run it."""
    found = _FILE.fullmatch(recipe) if isinstance(recipe, str) else None
    return found is not None and found["version"] is None


def read_recipe(named: str) -> Recipe[Any]:
    """Return the recipe of a ``FILE.py``, of that content if ``@`` and digits stand behind it.

    Raises ``InputError`` about ``recipes``.
    """
    found = _FILE.fullmatch(named)
    assert found is not None
    if (known := recipe_by_identity(named)) is not None:
        return known
    refused = _refusal(named)
    own = read_code(f"{found['path']}:{_CONSTANT}{found['version'] or ''}", refused)
    return _recipe_of(own.name, PurePath(found["path"]).stem, refused)


def recipe_by_identity(identity: str) -> Recipe[Any] | None:
    """Return a recipe of a file whose text this process was given, by what digests call it."""
    code = _code_name(identity)
    if code is None or not is_provided(code):
        return None
    return _recipe_of(code, identity.partition(".py@")[0], _refusal(identity))


def code_of_recipes(identities: Iterable[str]) -> tuple[OwnFunction, ...]:
    """Return the files of those recipes that workers must be given; what is installed is there already."""
    names = map(_code_name, identities)
    return tuple(provided([name for name in names if name is not None]))


def module_of_recipe(identity: str) -> ModuleType | None:
    """Return the module that a recipe's file became here, which no other process can import by its name."""
    code = _code_name(identity)
    return None if code is None else module_of(code, _refusal(identity))


def _code_name(identity: str) -> str | None:
    """Return what the text of a recipe's file is called; None where it is no file of known content."""
    found = _FILE.fullmatch(identity)
    if found is None or found["version"] is None or "/" in identity:
        return None
    return f"{found['path']}:{_CONSTANT}{found['version']}"


def installed_recipes(taken: Iterable[str]) -> Iterator[Recipe[Any]]:
    """Yield the recipes of installed distributions, and of files that the environment names.

    Tells of one that cannot be used, and leaves it out: what else is asked for may do without it.
    """
    taken = set(taken)
    entries = entry_points(group=GROUP)
    files = [file for file in os.environ.get(FILES, "").split(os.pathsep) if file]
    for recipe in (*map(_of_entry_point, entries), *map(_of_file, files)):
        if recipe is not None and recipe.name in taken:
            logger.warning("recipe %r is left out: there is one of that name already", recipe.identity)
        elif recipe is not None:
            taken.add(recipe.name)
            yield recipe


def _of_file(path: str) -> Recipe[Any] | None:
    try:
        if not names_file(path):
            raise _refusal(path)("is not a file of Python", f"name files that end in .py in {FILES}")
        return read_recipe(path)
    except InputError as error:
        logger.warning("%s: %s", FILES, error)
        return None


def _of_entry_point(entry: EntryPoint) -> Recipe[Any] | None:
    refused = _refusal(f"{entry.name} = {entry.value}")
    module, _, attribute = entry.value.partition(":")
    try:
        own = read_code(f"{module.strip()}:{attribute.strip() or _CONSTANT}", refused)
        return _recipe_of(own.name, entry.name, refused)
    except InputError as error:
        logger.warning("%s: %s", GROUP, error)
        return None


def check_name(name: str) -> None:
    """Raise ``InputError`` for what cannot be a recipe's name."""
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise InputError(
            "name", name, "is not a recipe's name", "use small letters, digits and _, a letter first"
        )


def _refusal(named: str) -> Refused:
    return lambda problem, remedy: InputError("recipes", named, problem, remedy)


def _recipe_of(code: str, name: str, refused: Refused) -> Recipe[Any]:
    """Return the recipe of a file that is at hand; raises what ``refused`` makes."""
    constant = member_of(code)
    found = getattr(module_of(code, refused), constant, None)
    if not isinstance(found, Recipe):
        raise refused(f"has no recipe {constant}", f"write {constant} = Recipe(name={name!r}, …)")
    check_name(name)
    if found.name != name:
        raise refused(f"calls its recipe {found.name!r}", f"name it {name!r}, as its file or entry point")
    check_declared(found, refused)
    return _READ.setdefault(code, with_checked_answers(replace(found, own=_identity(name, code))))


_READ: dict[str, Recipe[Any]] = {}
"""Each is made once, as what is derived from it is remembered by it."""


def _identity(name: str, code: str) -> str:
    file = ".py" if ".py:" in code else ""
    return f"{name}{file}@{code.rpartition('@')[2]}"
