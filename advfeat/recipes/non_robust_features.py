"""D_NR: images rebuilt so that a standard model's representation of them stays (Ilyas et al. 2019, §3.1).

What a standard source model keeps teaches the classes as well as ``robust_features``, but is not robust:
published are 88 % on clean images and 0 % under attack.
"""

from dataclasses import replace

from advfeat.recipes import robust_features
from advfeat.recipes.shared.recipe import Claim

RECIPE = replace(
    robust_features.RECIPE,
    name="non_robust_features",
    summary="images rebuilt from the features that a standard source model keeps",
    claim=Claim(
        teaches=True, robust=False, because="a standard network keeps non-robust features of an image"
    ),
    published=robust_features.of_madry_lab(0.88, "standard", robust_accuracy=0.0),
    source="standard_source",
)
