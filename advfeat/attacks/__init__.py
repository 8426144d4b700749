"""Attacks on networks: one loop of projected gradient descent, its norms, losses and engines.

``perturb`` is the whole of it for most; ``import advfeat.attacks`` needs torch and pydantic alone.
"""

from advfeat.attacks.balls import BALLS, movable, within
from advfeat.attacks.engine import REFERENCE, Engine, choose_engine, step_flop
from advfeat.attacks.objectives import objective
from advfeat.attacks.pgd import check_attackable, check_classes, perturb
from advfeat.attacks.rows import fill_up
from advfeat.attacks.user_model import plainly

__all__ = [
    "BALLS",
    "REFERENCE",
    "Engine",
    "check_attackable",
    "check_classes",
    "choose_engine",
    "fill_up",
    "movable",
    "objective",
    "perturb",
    "plainly",
    "step_flop",
    "within",
]
