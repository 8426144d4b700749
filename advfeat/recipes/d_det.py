"""D_det: adversarial examples under the next class's label (Ilyas et al. 2019, section 3.2).

What is left of the true class in the image now points to the wrong label, so a target model that
is right on clean images has learned from the perturbations, against the rest of the image. Any other
permutation of the classes than the next one may be set.
"""

from collections.abc import Sequence

import numpy as np

from advfeat.recipes.shared.ilyas import table_1, table_1_restricted_imagenet
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given) -> Labels:
    """Move each label to the next class, the last one to the first, or as the permutation says."""
    return permuted(given.labels, given.settings.permutation, given.classes)


def permuted(labels: Labels, permutation: Sequence[int] | None, classes: int) -> Labels:
    """Return the class that each of the labels (N,) is moved to: by the permutation, or the next one."""
    if permutation is None:
        return (labels + 1) % classes
    return np.asarray(permutation, np.int64)[labels]


D_DET = Recipe(
    name="d_det",
    summary="adversarial images under the next class's label",
    claim=Claim(teaches=True, because="perturbations are features, stronger than what is left of the image"),
    published=table_1(0.437),
    also_published=(table_1_restricted_imagenet(0.644),),
    source="source",
    relabel=relabel,
    make=perturbed,
    settings=("attack", "permutation"),
    control="bugs_only",
)
