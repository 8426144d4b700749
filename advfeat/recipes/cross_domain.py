"""Cross-domain: images of another domain under what the source model takes them for (Wallace, Distill 2019).

Every label is an error: none of the images shows what it is labelled as. The target model is tested on
the source model's own domain.
"""

import numpy as np
from numpy.typing import NDArray

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Published, Recipe


def relabel(given: Given) -> Labels:
    """Give each image the class that the source model takes it for."""
    return given.predictions()


def sample(given: Given, labels: Labels) -> NDArray[np.int64]:
    """Use all images once, or as many of each label, if the settings say so."""
    if not given.settings.cross_domain.balanced:
        return np.arange(len(labels))
    from advfeat.methods.cross_domain import class_balanced

    return class_balanced(labels, given.rng)


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


CROSS_DOMAIN = Recipe(
    name="cross_domain",
    summary="images of another domain under the source's predictions",
    claim=Claim(teaches=True, because="what a model sees in any images tells what it had learned"),
    published=_published(0.945, normalized=True),
    also_published=(_published(0.9104, normalized=False),),
    source="source",
    relabel=relabel,
    sample=sample,
    settings=("cross_domain",),
    originals="other domain",
    control="shuffled",
)
