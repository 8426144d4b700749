"""Leakage of D_det: what robust linear features alone learn from it (Goh, Distill 2019).

Robust features still point to the class that an image shows, and D_det's labels are those of the next one:
what leaks speaks against the true classes.
"""

from dataclasses import replace

from advfeat.recipes import d_det, leakage
from advfeat.recipes.shared.recipe import Claim, Published


class Settings(d_det.Settings, leakage.Settings):
    """Its own settings: those of both."""


RECIPE = replace(
    d_det.RECIPE,
    name="leakage_d_det",
    summary="robust linear features of adversarial images, labelled with the next class",
    paper=leakage.PAPER,
    claim=Claim(teaches=False, because="robust features show the original class, so D_det leaks none"),
    published=Published(
        0.0681, "CIFAR-10, linear features robust at L2 0.25", leakage.SOURCE, settings=leakage.SETTING
    ),
    also_published=(),
    control="leakage",
    settings=Settings,
    beyond_dataset=("leakage_eps",),
    learner="robust linear features",
    dataset_of="d_det",
    page="leakage",
)
