"""D_R and D_NR: images rebuilt so that a model's representation of them stays (Ilyas et al. 2019, §3.1).

What a robust source model keeps of an image are robust features, and what is learned from those alone is
robust too; what a standard one keeps teaches as well, but is not robust. Published are both parts: 84 %
on clean images and 48 % under attack, against 88 % and 0 %.
"""

from typing import TYPE_CHECKING

import numpy as np

from advfeat.digest import derived_seed
from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Claim, Making, Published, Recipe, SourceRole
from advfeat.spec import RecipeName

if TYPE_CHECKING:
    from torch import Tensor

_README = "README of MadryLab/constructed-datasets"


def rebuilt(making: Making) -> "Tensor":
    """Rebuild each image from another one, drawn at random, by the source model's representation."""
    from advfeat.hardware import device
    from advfeat.methods.representations import rebuild

    order = np.random.default_rng(derived_seed(making.seed, "starts")).permutation(making.count)
    return rebuild(
        making.source_model.to(device()),
        making.originals,
        making.originals_of(order[list(making.rows)].tolist()),
        steps=making.settings.rebuilding.steps,
        step_size=making.settings.rebuilding.step_size,
        progress=making.progress,
    )


def _recipe(name: RecipeName, source: SourceRole, kept: str, claim: Claim, published: Published) -> Recipe:
    return Recipe(
        name=name,
        summary=f"images rebuilt from what a {kept} source model keeps of them",
        claim=claim,
        published=published,
        source=source,
        relabel=relabel,
        make=rebuilt,
        settings=("rebuilding",),
        control="shuffled",
    )


def _published(accuracy: float, kept: str, robust_accuracy: float) -> Published:
    return Published(
        accuracy,
        f"CIFAR-10, ResNet-50, images of a {kept} network",
        _README,
        settings={"data.source": "cifar10", "data.train_size": None, "target.model": "resnet50"},
        robust_accuracy=robust_accuracy,
        robust_setting="L2 0.25",
    )


ROBUST_FEATURES = _recipe(
    "robust_features",
    "robust_source",
    "robust",
    Claim(teaches=True, robust=True, because="what a robust network keeps of an image are robust features"),
    _published(0.84, "robust", robust_accuracy=0.48),
)
NON_ROBUST_FEATURES = _recipe(
    "non_robust_features",
    "standard_source",
    "standard",
    Claim(teaches=True, robust=False, because="a standard network keeps non-robust features of an image"),
    _published(0.88, "standard", robust_accuracy=0.0),
)
