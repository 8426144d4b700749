"""The recipes: a file each, which holds all that is known of it. A file that is put here is a recipe.

Nothing here imports torch: what computes is imported when it computes.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from advfeat.errors import InputError
from advfeat.recipes.shared.recipe import (
    DROPPED,
    Axis,
    Claim,
    Given,
    Making,
    OwnSettings,
    Published,
    Recipe,
    SourceRole,
)

__all__ = [
    "DROPPED",
    "RECIPES",
    "Axis",
    "Claim",
    "Given",
    "Making",
    "OwnSettings",
    "Published",
    "Recipe",
    "SourceRole",
]


class _Recipes(dict[str, Recipe[Any]]):
    """Recipes by name; one that is not here is refused, as a store may hold data sets of others."""

    def __missing__(self, name: str) -> Recipe[Any]:
        raise InputError("recipe", name, "is unknown", f"choose from {', '.join(self)}")


def _recipes() -> _Recipes:
    found = _Recipes()
    for module in iter_modules(__path__):
        if not module.ispkg:
            recipe: Recipe[Any] = import_module(f"{__name__}.{module.name}").RECIPE
            if recipe.name != module.name:
                raise ValueError(f"recipe {recipe.name} stands in a file of another name, {module.name}.py")
            found[recipe.name] = recipe
    return found


RECIPES = _recipes()
"""Every recipe by its name, in the order of names."""
