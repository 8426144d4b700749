"""D_rand: adversarial examples under random target labels (Ilyas et al. 2019, section 3.2).

The target class is uniform over all classes, so neither the image nor its own label says anything
about it: whatever a target model learns, it learns from the perturbations.
"""

from typing import Any

import numpy as np

from advfeat.recipes.shared.ilyas import table_1, table_1_restricted_imagenet
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Draw each image's target class, uniform over all classes."""
    return given.rng.integers(0, given.classes, len(given.labels), dtype=np.int64)


RECIPE: Recipe[Any] = Recipe(
    name="d_rand",
    summary="adversarial images with random target labels",
    paper="Ilyas et al. 2019, section 3.2",
    claim=Claim(
        teaches=True, because="only the perturbations are related to the labels, and they are features"
    ),
    published=table_1(0.633),
    also_published=(table_1_restricted_imagenet(0.879),),
    control="shuffled",
    source="source",
    attacks=True,
    relabel=relabel,
    make=perturbed,
)
