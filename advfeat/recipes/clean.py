"""The training images under their own labels: the ceiling that every other recipe is held against."""

from typing import Any

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Published, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Keep every label."""
    return given.labels


RECIPE = Recipe(
    name="clean",
    summary="images with their own labels",
    claim=Claim(teaches=True, because="it is ordinary training"),
    published=Published(
        0.953,
        "CIFAR-10, ResNet-50",
        "Ilyas et al. 2019, table 1",
        settings={"data.source": "cifar10", "data.train_size": None, "target.model": "resnet50"},
    ),
    also_published=(
        Published(
            0.966,
            "Restricted ImageNet",
            "Ilyas et al. 2019, table 1",
            settings={"data.source": "restricted-imagenet", "data.train_size": None},
        ),
    ),
    control="shuffled",
    relabel=relabel,
)
