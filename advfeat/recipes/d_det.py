"""D_det: adversarial examples under the next class's label (Ilyas et al. 2019, section 3.2).

What is left of the true class in the image now points to the wrong label, so a target model that
is right on clean images has learned from the perturbations, against the rest of the image. Any other
permutation of the classes than the next one may be set.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field, field_validator

from advfeat.recipes.shared.ilyas import table_1, table_1_restricted_imagenet
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe
from advfeat.spec import Spec


class Settings(Spec):
    """Its own settings."""

    permutation: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None,
        description="d_det: the class that the images of each class are perturbed towards; the next one if "
        "unset",
    )

    @field_validator("permutation")
    @classmethod
    def _each_class_once(cls, permutation: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if permutation is not None and sorted(permutation) != list(range(len(permutation))):
            raise ValueError(f"does not name each of the classes 0 to {len(permutation) - 1} once")
        return permutation


def relabel(given: Given[Any]) -> Labels:
    """Move each label to the next class, the last one to the first, or as the permutation says."""
    return permuted(given.labels, given.settings.permutation, given.classes)


def permuted(labels: Labels, permutation: Sequence[int] | None, classes: int) -> Labels:
    """Return the class that each of the labels (N,) is moved to: by the permutation, or the next one."""
    if permutation is None:
        return (labels + 1) % classes
    return np.asarray(permutation, np.int64)[labels]


def in_words(settings: Settings) -> str:
    """Write the permutation, if it is one of its own."""
    order = settings.permutation
    return "" if order is None else f"classes to {' '.join(map(str, order))}"


RECIPE: Recipe[Any] = Recipe(
    name="d_det",
    summary="adversarial images, labelled with the next class",
    paper="Ilyas et al. 2019, section 3.2",
    claim=Claim(teaches=True, because="perturbations are features, and stronger than the rest of the image"),
    published=table_1(0.437),
    also_published=(table_1_restricted_imagenet(0.644),),
    control="bugs_only",
    source="source",
    settings=Settings,
    in_words=in_words,
    attacks=True,
    relabel=relabel,
    make=perturbed,
)
