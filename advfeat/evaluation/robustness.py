"""Accuracy under attack: an image counts if it is right as it is, and right under the attack."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.attacks import BALLS, check_classes, perturb, plainly, within
from advfeat.digest import derived_seed
from advfeat.errors import InputError, extra_missing
from advfeat.hardware import device
from advfeat.models import as_pixels, predict
from advfeat.progress import Progress
from advfeat.spec import Norm, UntargetedAttack

_AUTOATTACK_NORMS: dict[Norm, str] = {"l2": "L2", "linf": "Linf", "l1": "L1"}
_AUTOATTACK_BATCH_SIZE = 512
_FEWEST_CLASSES = 4
"""The targeted DLR loss of AutoAttack compares the logits of the four most likely classes."""


def robust_accuracy(
    model: nn.Module,
    images: Tensor,
    labels: NDArray[np.int64],
    attack: UntargetedAttack,
    seed: int,
    progress: Progress | None = None,
) -> float:
    """Return the share of images that are right, also under projected gradient descent with restarts.

    ``images`` are uint8 or float32 in [0, 1], (N, C, H, W), N at least one; ``labels`` int64 (N,).
    Random starts are drawn from ``seed`` and an image's place. This is an upper bound: a stronger
    attack finds more (Madry et al. 2018). Raises ``InputError`` for labels that the model has no class
    for.
    """
    pixels = as_pixels(images)
    right = np.flatnonzero(predict(model, pixels) == labels)
    adversarial = perturb(
        model,
        pixels[right],
        torch.from_numpy(labels[right]),
        attack,
        seed=derived_seed(seed, "robustness"),
        rows=right.tolist(),
        progress=progress,
    )
    return int(np.sum(predict(model, adversarial) == labels[right])) / len(labels)


def autoattack_accuracy(
    model: nn.Module, images: Tensor, labels: NDArray[np.int64], norm: Norm, eps: float, seed: int
) -> float:
    """Return the share of images that are right, also under the standard version of AutoAttack.

    Four attacks in turn, each on what the ones before have left: APGD on the cross-entropy, APGD on the
    targeted DLR loss, targeted FAB, and Square with 5,000 queries (Croce & Hein 2020, "Reliable
    evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks"),
    computed by ``pyautoattack`` in float32. ``images`` are uint8 or float32 in [0, 1], (N, C, H, W), N and
    sides of five pixels at least; ``labels`` int64 (N,); ``eps`` is in pixels of [0, 1]. Its random
    numbers belong to a batch, not to an image: the figure belongs to all images together, not to parts.

    The model is moved to the accelerator if there is one, and else left as it was found. Raises
    ``InputError`` where the extra ``autoattack`` is not installed, for l0, for labels that the model has no
    class for, and for models of fewer than four classes or that cannot be attacked.
    """
    if norm not in _AUTOATTACK_NORMS:
        known = ", ".join(_AUTOATTACK_NORMS)
        raise InputError("norm", norm, "is not known to AutoAttack", f"choose one of {known}")
    try:
        from pyautoattack import AutoAttack
    except ImportError as error:
        raise extra_missing("autoattack", "pyautoattack", "autoattack") from error
    where, pixels, truth = device(), as_pixels(images), torch.from_numpy(labels)
    model = model.to(where)
    with plainly(model), torch.random.fork_rng():
        ensemble = AutoAttack(
            model,
            norm=_AUTOATTACK_NORMS[norm],
            eps=eps,
            seed=derived_seed(seed, "autoattack"),
            device=where,
        )
        wrong_classes = _classes(model, pixels[:1], truth) - 1
        for part in (ensemble.apgd_targeted, ensemble.fab):
            part.n_target_classes = min(part.n_target_classes, wrong_classes)
        found, _ = ensemble.run_standard_evaluation(pixels, truth, batch_size=_AUTOATTACK_BATCH_SIZE)
        adversarial = within(pixels, found, BALLS[norm], eps)
        right = (predict(model, pixels) == labels) & (predict(model, adversarial) == labels)
    return int(np.sum(right)) / len(labels)


def _classes(model: nn.Module, image: Tensor, labels: Tensor) -> int:
    classes = check_classes(model, image, labels)
    if classes < _FEWEST_CLASSES:
        raise InputError(
            "classes",
            classes,
            "are fewer than AutoAttack can tell apart",
            f"use robust_accuracy, or a model of {_FEWEST_CLASSES} classes or more",
        )
    return classes
