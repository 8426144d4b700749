"""The recipes: a file each, which holds all that is known of it. A file that is put here is a recipe.

So is one that an experiment names, or that is installed (``advfeat.recipes.shared.own``). Nothing here
imports torch: what computes is imported when it computes.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from advfeat.errors import InputError
from advfeat.recipes.shared.own import installed_recipes, names_file, read_recipe, recipe_by_identity
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import (
    DROPPED,
    Axis,
    Claim,
    Given,
    Labels,
    Making,
    OwnSettings,
    Published,
    Recipe,
    SourceRole,
    plain_name,
)

__all__ = [
    "BUILT_IN",
    "DROPPED",
    "RECIPES",
    "Axis",
    "Claim",
    "Given",
    "Labels",
    "Making",
    "OwnSettings",
    "Published",
    "Recipe",
    "SourceRole",
    "names_file",
    "perturbed",
    "plain_name",
    "recipe_at_hand",
    "recipe_named",
]


class _Recipes(dict[str, Recipe[Any]]):
    """Recipes by name; those of the user's own also by name and content, once they are at hand.

    Any other is refused, as a store may hold data sets of others.
    """

    def __missing__(self, name: str) -> Recipe[Any]:
        if (own := recipe_at_hand(name)) is not None:
            return own
        if "@" in name:
            raise InputError(
                "recipe", name, "is someone's own recipe, and not available here", "run its experiment again"
            )
        remedy = f"choose from {', '.join(self)}, or give a FILE.py"
        raise InputError("recipe", name, "is unknown", remedy)


def _built_in() -> _Recipes:
    found = _Recipes()
    for module in iter_modules(__path__):
        if not module.ispkg:
            recipe: Recipe[Any] = import_module(f"{__name__}.{module.name}").RECIPE
            if recipe.name != module.name:
                raise ValueError(f"recipe {recipe.name} is in a file of another name, {module.name}.py")
            found[recipe.name] = recipe
    return found


RECIPES = _built_in()
"""Every recipe by its name, in the order of names; behind them those that are installed besides."""

BUILT_IN = tuple(RECIPES)
"""The recipes of this package."""

RECIPES |= {recipe.name: recipe for recipe in installed_recipes(BUILT_IN)}


def recipe_at_hand(name: object) -> Recipe[Any] | None:
    """Return a recipe by its name, or by what digests call it, without reading a file."""
    if not isinstance(name, str):
        return None
    found = RECIPES.get(plain_name(name))
    return found if found is not None and name in (found.name, found.identity) else recipe_by_identity(name)


def recipe_named(name: str) -> Recipe[Any]:
    """Return a recipe by its name or its file, which is read; raises ``InputError``."""
    if not names_file(name):
        return RECIPES[name]
    recipe = read_recipe(name)
    if recipe.name in BUILT_IN:
        raise InputError("recipes", name, "has the name of a recipe of advfeat", "give it another")
    return recipe
