"""Leakage: what robust linear features alone learn from D_rand (Goh, Distill 2019).

Linear features that stay useful within a small ball around each image are what no attack takes away. What
they predict of the target labels was in the images already, and leaks into what D_rand teaches.
"""

from dataclasses import replace

from pydantic import Field

from advfeat.recipes import d_rand
from advfeat.recipes.shared.recipe import Claim, Published
from advfeat.spec import Spec

PAPER = "Goh 2019"
SOURCE = "Goh 2019, distill.pub/2019/advex-bugs-discussion/response-2"
SETTING = {"data.source": "cifar10", "data.train_size": None, "leakage_eps": 0.25}


class Settings(Spec):
    """Its own settings."""

    leakage_eps: float = Field(
        default=0.25,
        gt=0,
        le=1_000_000,
        description="leakage: only linear features that stay useful within this L2 ball count",
    )


RECIPE = replace(
    d_rand.RECIPE,
    name="leakage",
    summary="robust linear features of adversarial images with random target labels",
    paper=PAPER,
    claim=Claim(teaches=True, because="part of what D_rand teaches leaks from robust features"),
    published=Published(
        0.235, "CIFAR-10, linear features robust at L2 0.25; at least", SOURCE, settings=SETTING
    ),
    also_published=(),
    control="leakage_d_det",
    settings=Settings,
    beyond_dataset=("leakage_eps",),
    learner="robust linear features",
    dataset_of="d_rand",
)
