"""Label noise: real images, a share of them under random wrong labels.

The baseline of every recipe with wrong labels: here the rest is right, and that is what teaches.
"""

import numpy as np
from pydantic import Field

from advfeat.recipes.shared.recipe import Axis, Claim, Given, Labels, Recipe
from advfeat.spec import Spec


class Settings(Spec):
    """Its own settings."""

    label_noise: float = Field(
        default=0.4, ge=0, le=1, description="label_noise: the share of images with a random wrong label"
    )


def relabel(given: Given[Settings]) -> Labels:
    """Give a share of the images another label, uniform over the others."""
    wrong = given.rng.random(len(given.labels)) < given.settings.label_noise
    shifts = given.rng.integers(1, max(2, given.classes), len(given.labels), dtype=np.int64)
    return np.where(wrong, (given.labels + shifts) % given.classes, given.labels)


RECIPE = Recipe(
    name="label_noise",
    summary="images, a share of them with random wrong labels",
    claim=Claim(teaches=True, because="the correct labels outvote the random ones"),
    control="shuffled",
    settings=Settings,
    in_words=lambda settings: f"{100 * settings.label_noise:.1f} % random labels",
    axes=(
        Axis(
            "label_noise",
            "label_noise",
            "shares of the images with a random wrong label, 0 to 1; 0.4 if none",
        ),
    ),
    relabel=relabel,
)
