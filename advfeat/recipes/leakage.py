"""Leakage: how much of D_rand and D_det robust linear features alone explain (Goh, Distill 2019)."""

from dataclasses import replace

from advfeat.recipes.d_det import D_DET
from advfeat.recipes.d_rand import D_RAND
from advfeat.recipes.shared.recipe import Claim, Published

_SOURCE = "Goh 2019, distill.pub/2019/advex-bugs-discussion/response-2"
_SETTINGS = {"data.source": "cifar10", "data.train_size": None, "leakage_eps": 0.25}

LEAKAGE = replace(
    D_RAND,
    name="leakage",
    summary="robust linear features of adversarial images under random target labels",
    claim=Claim(teaches=True, because="part of what D_rand teaches leaks from robust features"),
    published=Published(
        0.235, "CIFAR-10, linear features robust at L2 0.25; at least", _SOURCE, settings=_SETTINGS
    ),
    also_published=(),
    learner="robust linear features",
    dataset_of="d_rand",
    control="leakage_d_det",
)
LEAKAGE_D_DET = replace(
    D_DET,
    name="leakage_d_det",
    summary="robust linear features of adversarial images under the next class's label",
    claim=Claim(teaches=False, because="robust features point to the class before, so D_det leaks none"),
    published=Published(0.0681, "CIFAR-10, linear features robust at L2 0.25", _SOURCE, settings=_SETTINGS),
    also_published=(),
    learner="robust linear features",
    dataset_of="d_det",
    control="leakage",
)
