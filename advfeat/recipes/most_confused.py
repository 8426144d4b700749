"""Most confused: D_det towards the class that the source model would name second."""

from typing import Any

import numpy as np

from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Choose the most likely class that is not the image's own."""
    others = given.probabilities().copy()
    np.put_along_axis(others, given.labels[:, None], -1, axis=1)
    return np.asarray(others.argmax(1), np.int64)


RECIPE = Recipe(
    name="most_confused",
    summary="adversarial images, labelled with the wrong class that the source finds most likely",
    claim=Claim(teaches=True, because="image and perturbation point to similar classes"),
    control="shuffled",
    source="source",
    attacks=True,
    relabel=relabel,
    make=perturbed,
)
