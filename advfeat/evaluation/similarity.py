"""How alike two networks represent the same images."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.methods.representations import last_linear
from advfeat.models import logits


def representation(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return what enters the network's last linear layer, float32 (N, features).

    ``images`` are uint8 or float32 in [0, 1], (N, C, H, W). Every architecture of ``advfeat.models`` has
    such a layer; of a network of the user's own without one it is the logits. Ilyas et al. (2019), section
    3.1, call this representation g(x).
    """
    entered: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...]) -> None:
        entered.append(arguments[0].flatten(1).cpu())

    layer = last_linear(model)
    hook = None if layer is None else layer.register_forward_pre_hook(keep)
    try:
        found = logits(model, images)
    finally:
        if hook is not None:
            hook.remove()
    return np.asarray(torch.cat(entered) if entered else found, np.float32)


def linear_cka(first: NDArray[np.floating], second: NDArray[np.floating]) -> float:
    """Return the linear centered kernel alignment of two representations of the same images, in [0, 1].

    ``first`` is (N, d1), ``second`` (N, d2), N at least one; the computation is in float64 and takes
    matrices of features, not of images. It is 1 for representations that differ by a rotation, a scale
    and a shift, and 0 where one of them is the same for all images. Kornblith et al. (2019),
    "Similarity of Neural Network Representations Revisited", section 3.
    """
    x, y = _centered(first), _centered(second)
    shared = np.linalg.norm(y.T @ x) ** 2
    most = np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y)
    return min(1.0, float(shared / most)) if most > 0 else 0.0


def _centered(representation: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return features of mean zero at a norm of one, over all images."""
    values = representation.astype(np.float64)
    values -= values[0].copy()  # what is the same for all images becomes exactly zero
    values -= values.mean(axis=0)
    norm = float(np.linalg.norm(values))
    return values / norm if norm > 0 else values
