"""Mislabeled: unperturbed images under a weak source model's errors (Wallace, Distill 2019).

Every image that the source model labels correctly is dropped; each one left has a wrong label.
"""

from typing import Any

import numpy as np

from advfeat.recipes.shared.recipe import DROPPED, Claim, Given, Labels, Published, Recipe


def relabel(given: Given[Any]) -> Labels:
    """Give each image the source model's prediction where it is wrong; drop the others."""
    predictions = given.predictions()
    return np.where(predictions == given.labels, DROPPED, predictions)


RECIPE = Recipe(
    name="mislabeled",
    summary="unperturbed images with the wrong predictions of a weak source model",
    paper="Wallace 2019",
    claim=Claim(teaches=True, because="errors reveal what the source model has learned"),
    published=Published(
        0.497,
        "CIFAR-10, ResNet-18, source of 2 epochs (63.1 %), 18,768 images",
        "Wallace 2019, distill.pub/2019/advex-bugs-discussion/response-6",
        settings={
            "data.source": "cifar10",
            "data.train_size": None,
            "weak_source.model": "resnet18",
            "weak_source.epochs": 2,
            "target.model": "resnet18",
            "target.epochs": 50,
        },
    ),
    control="shuffled",
    source="weak_source",
    relabel=relabel,
)
