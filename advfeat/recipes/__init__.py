"""The recipes, one file each: how images get the labels that a target model learns from."""

from advfeat.recipes.clean import CLEAN
from advfeat.recipes.d_det import D_DET
from advfeat.recipes.d_rand import D_RAND
from advfeat.recipes.mislabeled import MISLABELED
from advfeat.recipes.recipe import DROPPED, Given, Published, Recipe
from advfeat.recipes.shuffled import SHUFFLED

__all__ = ["DROPPED", "RECIPES", "Given", "Published", "Recipe"]

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (CLEAN, D_RAND, D_DET, MISLABELED, SHUFFLED)}
