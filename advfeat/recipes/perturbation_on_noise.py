"""Perturbations on noise: random pixels, perturbed towards random labels (Kumano et al. 2024).

Nothing of a natural image is left: what a target model learns of the classes, it learns from the
perturbations alone.
"""

from advfeat.recipes.d_rand import relabel
from advfeat.recipes.shared.perturbed import perturbed
from advfeat.recipes.shared.recipe import Claim, Recipe

PERTURBATION_ON_NOISE = Recipe(
    name="perturbation_on_noise",
    summary="noise, perturbed towards random labels",
    claim=Claim(teaches=True, because="perturbations alone carry features of the classes"),
    published=None,  # above chance on MNIST, Fashion-MNIST and CIFAR-10: no one figure
    source="source",
    relabel=relabel,
    make=perturbed,
    settings=("attack", "noise"),
    originals="noise",
    control="shuffled",
)
