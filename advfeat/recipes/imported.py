"""Imported: a finished data set under its own labels, made elsewhere or exported from here.

Ilyas et al. published four for CIFAR-10: from robust_CIFAR 84 % clean and 48 % robust accuracy (L2 0.25),
non_robust_CIFAR 88 % and 0 %, drand_CIFAR 63 % and 0 %, ddet_CIFAR 44 % and 0 % (README of
MadryLab/constructed-datasets).
"""

from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Claim, Recipe

IMPORTED = Recipe(
    name="imported",
    summary="a finished data set under its own labels",
    claim=Claim(teaches=True, because="it was published as one from which the classes can be learned"),
    published=None,  # a figure a data set
    source=None,
    relabel=relabel,
    originals="unknown",
    control="shuffled",
)
