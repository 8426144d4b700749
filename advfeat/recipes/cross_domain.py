"""Cross-domain: images of another domain under what the source model takes them for (Wallace, Distill 2019).

Every label is an error: none of the images shows what it is labelled as. The target model is tested on
the source model's own domain.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from advfeat.recipes.shared.recipe import Axis, Claim, Given, Labels, Published, Recipe
from advfeat.spec import DataSpec, Spec


class CrossDomain(Spec):
    """How the source model labels images of another domain (Wallace 2019)."""

    normalized: bool = Field(
        default=True, description="give them the mean and standard deviation of the source model's images"
    )
    balanced: bool = Field(
        default=False, description="draw as many images of each label that the source model gives"
    )


class Settings(Spec):
    """Its own settings."""

    other_data: DataSpec | None = Field(
        default=None, description="cross_domain: images of another domain, of the same size and channels"
    )
    cross_domain: CrossDomain = Field(
        default=CrossDomain(), description="cross_domain: how the other domain's images are labelled"
    )


def relabel(given: Given[Settings]) -> Labels:
    """Give each image the class that the source model takes it for."""
    return given.predictions()


def sample(given: Given[Settings], labels: Labels) -> NDArray[np.int64]:
    """Use all images once, or as many of each label, if the settings say so."""
    if not given.settings.cross_domain.balanced:
        return np.arange(len(labels))
    from advfeat.methods.cross_domain import class_balanced

    return class_balanced(labels, given.rng)


def in_words(settings: Settings) -> str:
    """Write how the images are labelled."""
    how = settings.cross_domain
    return ("normalized" if how.normalized else "not normalized") + (", balanced" if how.balanced else "")


def missing(experiment: Any) -> str | None:
    """Ask for the other domain, and refuse attacks that would leave [0, 1] from outside of it."""
    if experiment.other_data is None:
        return "needs other_data, images of another domain, for cross_domain"
    if experiment.cross_domain.normalized and experiment.target.adversarial:
        return "cannot have target.adversarial in cross_domain: its normalized images leave [0, 1]"
    return None


def _published(accuracy: float, *, normalized: bool) -> Published:
    way = "normalized to MNIST's statistics" if normalized else "as it is"
    return Published(
        accuracy,
        f"Fashion-MNIST, {way}, labelled by an MNIST CNN",
        "Wallace 2019, distill.pub/2019/advex-bugs-discussion/response-6",
        settings={
            "data.source": "mnist",
            "data.train_size": None,
            "other_data.source": "fashion-mnist",
            "other_data.train_size": None,
            "cross_domain.normalized": normalized,
        },
    )


RECIPE = Recipe(
    name="cross_domain",
    summary="images of another domain, labelled by the source model",
    paper="Wallace 2019",
    claim=Claim(teaches=True, because="predictions on any images reveal what a model has learned"),
    published=_published(0.945, normalized=True),
    also_published=(_published(0.9104, normalized=False),),
    control="shuffled",
    source="source",
    settings=Settings,
    beyond_dataset=("other_data",),
    in_words=in_words,
    missing=missing,
    axes=(
        Axis(
            "other_data",
            "other_data.source",
            "the images that the source models label; of the preset if none",
            values=Literal["photo-patches", "digits", "mnist", "fashion-mnist", "cifar10"],
        ),
        Axis("normalized", "cross_domain.normalized", "whether they get the statistics of the data"),
        Axis("balanced", "cross_domain.balanced", "whether as many are drawn of each label"),
    ),
    relabel=relabel,
    sample=sample,
    originals="other domain",
)
