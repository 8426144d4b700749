"""Label noise: real images, a share of them under random wrong labels.

The baseline of every recipe with wrong labels: here the rest is right, and that is what teaches.
"""

import numpy as np

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given) -> Labels:
    """Give a share of the images another label, uniform over the others."""
    wrong = given.rng.random(len(given.labels)) < given.settings.label_noise
    shifts = given.rng.integers(1, max(2, given.classes), len(given.labels), dtype=np.int64)
    return np.where(wrong, (given.labels + shifts) % given.classes, given.labels)


LABEL_NOISE = Recipe(
    name="label_noise",
    summary="images of which a share has random wrong labels",
    claim=Claim(teaches=True, because="the correct labels outvote the random ones"),
    published=None,
    source=None,
    relabel=relabel,
    settings=("label_noise",),
    control="shuffled",
)
