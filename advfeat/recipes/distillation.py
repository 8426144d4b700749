"""Distillation: real images under the source model's probabilities, correct ones kept (Hinton et al. 2015).

The baseline of learning from a model's errors: here its whole opinion is learned.
"""

from typing import Any

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Keep every label; what is learned are the probabilities beside it."""
    return given.labels


RECIPE = Recipe(
    name="distillation",
    summary="images with the source model's probabilities",
    paper="Hinton et al. 2015",
    claim=Claim(teaches=True, because="the source model is right, and probabilities say more than labels"),
    control="clean",
    source="source",
    relabel=relabel,
    soft_labels=True,
)
