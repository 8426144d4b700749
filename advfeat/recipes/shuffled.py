"""Shuffled: unperturbed images under permuted labels, the control that must stay at chance."""

from advfeat.recipes.shared.recipe import Claim, Given, Labels, Recipe


def relabel(given: Given) -> Labels:
    """Permute the labels over the images."""
    return given.rng.permutation(given.labels)


SHUFFLED = Recipe(
    name="shuffled",
    summary="unperturbed images under permuted labels",
    claim=Claim(teaches=False, because="nothing in an image goes with its label"),
    published=None,
    source=None,
    relabel=relabel,
    control="clean",
)
