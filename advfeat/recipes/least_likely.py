"""Least likely: D_det towards the class that the source model finds least likely of each image."""

from typing import Any

import numpy as np

from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Choose the class of the smallest probability."""
    return np.asarray(given.probabilities().argmin(1), np.int64)


RECIPE = Recipe(
    name="least_likely",
    summary="adversarial images, labelled with the class that the source finds least likely",
    claim=Claim(teaches=True, because="the perturbations must carry all of the new class"),
    control="shuffled",
    source="source",
    attacks=True,
    relabel=relabel,
    make=perturbed,
)
