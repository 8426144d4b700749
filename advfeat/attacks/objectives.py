"""What an attack descends on: one value per image, lower the nearer the attack is to its goal."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advfeat.attacks.own_loss import own_loss
from advfeat.spec import Attack

Objective = Callable[[Tensor, Tensor], Tensor]
"""(logits (N, classes), labels (N,)) -> values (N,)."""


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the best other class's logit less the label's (Carlini & Wagner 2017, f6, unclipped)."""
    # Not F.one_hot: it looks at the labels, which no traced step can do.
    label = labels[:, None] == torch.arange(logits.shape[1], device=logits.device)
    return logits.masked_fill(label, -torch.inf).amax(1) - _logit(logits, labels)


def _logit(logits: Tensor, labels: Tensor) -> Tensor:
    return logits.gather(1, labels[:, None]).squeeze(1)


_TOWARDS_LABEL: dict[str, Objective] = {
    "cross-entropy": _cross_entropy,
    "margin": _margin,
    "logit": lambda logits, labels: -_logit(logits, labels),
}


def objective(attack: Attack) -> Objective:
    """Return what the attack descends on: towards the labels if targeted, else away from them."""
    towards: Objective = _TOWARDS_LABEL.get(attack.loss) or own_loss(attack.loss)
    return towards if attack.targeted else lambda logits, labels: -towards(logits, labels)


def evaluated(
    network: nn.Module, loss: Objective, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits (N, classes), losses (N,) and the gradients of the losses (N, C, H, W) at ``images``.

    Logits and losses hold on to the graph that they come from: detach what is to be kept.
    """
    with torch.enable_grad():
        pixels = images.detach().requires_grad_()
        logits = network(pixels)
        losses = loss(logits, labels)
        (gradient,) = torch.autograd.grad(losses.sum(), pixels)
    return logits, losses, gradient


def goal_confidence(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Return the probability (N,) that the network gives the attack's goal.

    That is the probability of the label if ``targeted``, else of anything but the label.
    """
    probability = _logit(logits.softmax(1), labels)
    return probability if targeted else 1 - probability


def reached(logits: Tensor, labels: Tensor, targeted: bool) -> Tensor:
    """Return whether the predicted class is the goal, bool (N,)."""
    hit = logits.argmax(1) == labels
    return hit if targeted else ~hit
