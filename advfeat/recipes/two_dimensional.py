"""Two-dimensional: learning from adversarial points of the unit square, where one can see it (Wallace 2019).

It needs no images: points, networks and attack are those of ``advfeat.methods.two_dimensional``. What
counts is the share of the plane on which old and new network agree; two unrelated ones have one half.
"""

from advfeat.recipes.clean import relabel
from advfeat.recipes.shared.recipe import Claim, Recipe

TWO_DIMENSIONAL = Recipe(
    name="two_dimensional",
    summary="adversarial points of the plane under flipped labels; accuracy: agreement with the old net",
    claim=Claim(teaches=True, because="the adversarial points outline the old network's boundary"),
    published=None,  # a picture, and 23 of 32 points right: ``points_right`` of the stage
    source=None,
    relabel=relabel,
    learner="network in the plane",
)
