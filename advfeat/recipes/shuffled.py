"""Shuffled: unperturbed images under permuted labels, the control that must stay at chance."""

from typing import Any

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Permute the labels over the images."""
    return given.rng.permutation(given.labels)


RECIPE = Recipe(
    name="shuffled",
    summary="unperturbed images with permuted labels",
    claim=Claim(teaches=False, because="labels are unrelated to the images"),
    control="clean",
    relabel=relabel,
)
