"""D_rand: adversarial examples under random target labels (Ilyas et al. 2019, section 3.2).

The target class is uniform over all classes, so neither the image nor its own label says anything
about it: whatever a target model learns, it learns from the perturbations.
"""

import numpy as np

from advfeat.recipes.perturbed import perturbed
from advfeat.recipes.recipe import Claim, Given, Labels, Published, Recipe


def relabel(given: Given) -> Labels:
    """Draw each image's target class, uniform over all classes."""
    return given.rng.integers(0, given.classes, len(given.labels), dtype=np.int64)


D_RAND = Recipe(
    name="d_rand",
    summary="adversarial images under random target labels",
    claim=Claim(teaches=True, because="only the perturbations go with the labels, and they are features"),
    published=Published(0.633, "CIFAR-10, ResNet-50, L2 eps 0.5, 100 steps", "Ilyas et al. 2019, table 1"),
    source="source",
    relabel=relabel,
    make=perturbed,
    settings=("attack",),
)
