"""Random perturbation: images moved as far as D_rand's, but in directions that no network gave.

The labels are D_rand's, row by row; where the perturbation points is all that differs. So it is the control
that separates "perturbed" from "adversarially perturbed". On the digits it stays at chance: 10.0 % (7.2 to
12.8 %) over three seeds, where D_rand has 96.3 %.
"""

from typing import TYPE_CHECKING, Any

from advfeat.recipes.d_rand import relabel
from advfeat.recipes.shared.recipe import Claim, Making, Recipe

if TYPE_CHECKING:
    from torch import Tensor

_STEPS = 50
"""Towards the end of the ball; pixels that reach 0 or 1 on the way stop there, as an attack's do."""


def randomly_perturbed(making: Making[Any]) -> "Tensor":
    """Move each original along a random direction, to the surface of the attack's ball or as near as it gets.

    It is what the attack would do to a network whose gradient is noise, drawn from seed and row.
    """
    import torch

    from advfeat.attacks import BALLS, movable, within
    from advfeat.digest import derived_seed

    assert making.attack is not None
    ball, eps, images = BALLS[making.attack.norm], making.attack.eps, making.originals
    seeds = (derived_seed(making.seed, "direction", row) for row in making.rows)
    draws = (torch.Generator().manual_seed(seed) for seed in seeds)
    towards = torch.stack([torch.randn(images.shape[1:], generator=draw) for draw in draws])
    moved = images
    for _ in range(_STEPS):
        step = eps * ball.direction(movable(towards, moved))
        moved = images + ball.project((moved + step).clamp(0, 1) - images, eps)
    return within(images, moved, ball, eps)


RECIPE = Recipe(
    name="random_perturbation",
    summary="images moved in random directions, as far as those of D_rand and with its labels",
    claim=Claim(
        teaches=False, because="random directions carry no features of the classes", needs_success=False
    ),
    control="d_rand",
    source="source",
    attacks=True,
    relabel=relabel,
    labels_of="d_rand",
    make=randomly_perturbed,
    passes=lambda _: 0,
)
