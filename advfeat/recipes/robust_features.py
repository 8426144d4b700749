"""D_R: images rebuilt so that a robust model's representation of them stays (Ilyas et al. 2019, §3.1).

What a robust source model keeps of an image are robust features, and what is learned from those alone is
robust too. Published are both parts: 84 % on clean images and 48 % under attack, against 88 % and 0 % of
``non_robust_features``.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from advfeat.digest import derived_seed
from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Axis, Claim, Making, Published, Recipe
from advfeat.spec import Spec

if TYPE_CHECKING:
    from torch import Tensor


class Rebuilding(Spec):
    """How images are rebuilt from a source model's representation (Ilyas et al. 2019, section 3.1)."""

    steps: int = Field(default=200, ge=1, le=100_000, description="gradient steps")
    step_size: float = Field(default=0.1, gt=0, le=1000, description="L2 length of a step, pixels in [0, 1]")


class Settings(Spec):
    """Its own settings."""

    rebuilding: Rebuilding = Field(
        default=Rebuilding(), description="robust_features, non_robust_features: how images are rebuilt"
    )


def rebuilt(making: Making[Settings]) -> "Tensor":
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


def in_words(settings: Settings) -> str:
    """Write steps and their length."""
    return f"rebuilt in {settings.rebuilding.steps:,} steps of {settings.rebuilding.step_size:g}"


def missing(experiment: Any) -> str | None:
    """Ask for a robust source model."""
    source = experiment.robust_source
    if source is not None and (source.adversarial is not None or source.weights is not None):
        return None
    return "needs a robust_source with an adversarial attack for robust_features, non_robust_features"


def of_madry_lab(accuracy: float, kept: str, robust_accuracy: float) -> Published:
    """Return a figure of the data sets that the paper's authors published."""
    return Published(
        accuracy,
        f"CIFAR-10, ResNet-50, images of a {kept} network",
        "README of MadryLab/constructed-datasets",
        settings={"data.source": "cifar10", "data.train_size": None, "target.model": "resnet50"},
        robust_accuracy=robust_accuracy,
        robust_setting="L2 0.25",
    )


RECIPE = Recipe(
    name="robust_features",
    summary="images rebuilt from the features that a robust source model keeps",
    paper="Ilyas et al. 2019, section 3.1",
    claim=Claim(teaches=True, robust=True, because="a robust network keeps robust features of an image"),
    published=of_madry_lab(0.84, "robust", robust_accuracy=0.48),
    control="shuffled",
    source="robust_source",
    settings=Settings,
    in_words=in_words,
    missing=missing,
    axes=(
        Axis("rebuilding_steps", "rebuilding.steps", "gradient steps, 1 to 100,000; of the preset if none"),
    ),
    relabel=relabel,
    make=rebuilt,
    passes=lambda experiment: experiment.rebuilding.steps,
    page="features",
)
