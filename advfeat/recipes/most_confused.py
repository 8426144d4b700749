"""Most confused: D_det towards the class that the source model would name second."""

import numpy as np

from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given) -> Labels:
    """Choose the most likely class that is not the image's own."""
    others = given.probabilities().copy()
    np.put_along_axis(others, given.labels[:, None], -1, axis=1)
    return np.asarray(others.argmax(1), np.int64)


MOST_CONFUSED = Recipe(
    name="most_confused",
    summary="adversarial images under the wrong class that the source finds most likely",
    claim=Claim(teaches=True, because="image and perturbation point to classes that are alike"),
    published=None,
    source="source",
    relabel=relabel,
    make=perturbed,
    settings=("attack",),
    control="shuffled",
)
