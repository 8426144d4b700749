"""Perturbations on noise: random pixels, perturbed towards random labels (Kumano et al. 2024).

Nothing of a natural image is left: what a target model learns of the classes, it learns from the
perturbations alone.
"""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from advfeat.recipes.d_rand import relabel
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Axis, Claim, Recipe
from advfeat.spec import Spec

_DEVIATION = 0.25
"""Of Gaussian noise around 0.5, clipped to [0, 1]: 5 % of the pixels are."""


class Settings(Spec):
    """Its own settings."""

    noise: Literal["uniform", "gaussian"] = Field(
        default="uniform",
        description="perturbation_on_noise: pixels uniform in [0, 1], or Gaussian around 0.5",
    )


def drawn(settings: Settings, shape: tuple[int, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw an image of this shape, (C, H, W), pixels in [0, 1]."""
    if settings.noise == "uniform":
        return rng.random(shape, np.float32)
    return rng.normal(0.5, _DEVIATION, shape).astype(np.float32).clip(0, 1)


RECIPE = Recipe(
    name="perturbation_on_noise",
    summary="noise, perturbed towards random labels",
    paper="Kumano et al. 2024",
    claim=Claim(teaches=True, because="perturbations alone carry features of the classes"),
    published=None,  # above chance on MNIST, Fashion-MNIST and CIFAR-10: no one figure
    control="shuffled",
    source="source",
    settings=Settings,
    axes=(Axis("noise", "noise", "pixels uniform in [0, 1], or Gaussian around 0.5"),),
    attacks=True,
    relabel=relabel,
    make=perturbed,
    originals="noise",
    drawn=drawn,
)
