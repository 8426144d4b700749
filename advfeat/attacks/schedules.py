"""How long an attack's steps are: all alike, along half a cosine, or as Auto-PGD finds for each image.

What a schedule keeps of each image is its state: tensors whose first dimension is N, which the step takes and
returns. They stay on the device and in the compiled step, and no image's depend on another's.
"""

from itertools import pairwise
from math import pi
from typing import NamedTuple

import torch
from torch import Tensor, nn

from advfeat.attacks.balls import BALLS
from advfeat.attacks.objectives import evaluated, goal_confidence, objective
from advfeat.attacks.step_graph import Step
from advfeat.spec import Attack

State = tuple[Tensor, ...]
"""Of a constant schedule nothing, of a cosine the number of steps taken (N,), of Auto-PGD ``AutoState``."""

_INERTIA = 0.25
"""The share of the last move in the next one: 1 - alpha."""

_LEAST_SHARE_OF_FALLS = 0.75
"""Where fewer of the steps since the last checkpoint lowered the loss, the length is halved: rho."""


def starting_state(attack: Attack, perturbation: Tensor) -> State:
    """Return the state before the first step from ``perturbation`` (N, C, H, W), each a tensor of its own."""
    count = len(perturbation)
    if attack.schedule == "constant":
        return ()
    if attack.schedule == "cosine":
        return (perturbation.new_zeros(count),)
    return AutoState(
        previous=perturbation.clone(),
        best=perturbation.clone(),
        towards=torch.zeros_like(perturbation),
        loss=perturbation.new_full((count,), -torch.inf),
        best_loss=perturbation.new_full((count,), torch.inf),
        checked_loss=perturbation.new_full((count,), torch.inf),
        length=perturbation.new_full((count,), attack.step_length),
        falls=perturbation.new_zeros(count),
        halved=perturbation.new_zeros(count),
        taken=perturbation.new_zeros(count),
    )


def next_length(attack: Attack, state: State) -> tuple[float | Tensor, State]:
    """Return how long the next step is, of a cosine (N, 1, 1, 1), and the state after it."""
    if not state:
        return attack.step_length, ()
    (taken,) = state
    length = attack.step_length / 2 * (1 + (taken * (pi / attack.steps)).cos())
    return _per_image(length), (taken + 1,)


def ended(
    network: nn.Module, attack: Attack, images: Tensor, perturbation: Tensor, labels: Tensor, state: State
) -> Tensor:
    """Return where the attack has arrived after its last step: of Auto-PGD the best point that it has seen.

    That takes one more forward pass, of the last point. To be called under ``torch.no_grad()``.
    """
    if attack.schedule != "apgd":
        return perturbation
    kept = AutoState(*state)
    logits = network(images + perturbation)
    # A point that is NaN is worse than none, so that it is told of.
    worse = objective(attack)(logits, labels) >= kept.best_loss
    if attack.stop_confidence is not None:
        worse &= goal_confidence(logits, labels, attack.targeted) < attack.stop_confidence
    return torch.where(_per_image(worse), kept.best, perturbation)


class AutoState(NamedTuple):
    """What Auto-PGD keeps of each image: points (N, C, H, W), all others (N,)."""

    previous: Tensor
    """The perturbation before the last step."""
    best: Tensor
    """The perturbation of the lowest loss so far."""
    towards: Tensor
    """The direction of descent there."""
    loss: Tensor
    """The loss before the last step."""
    best_loss: Tensor
    checked_loss: Tensor
    """The lowest loss at the last checkpoint."""
    length: Tensor
    falls: Tensor
    """How many steps since the last checkpoint lowered the loss."""
    halved: Tensor
    """1 where the last checkpoint halved the length, else 0."""
    taken: Tensor
    """How many steps were taken."""


def checkpoints(steps: int) -> list[int]:
    """Return after how many steps Auto-PGD asks whether to halve the length, from 0 on, ascending.

    Shares of the steps 0, 0.22, 0.41, … rounded up: each is 0.03 less than the one before it after the last,
    and at least 0.06 (Croce & Hein 2020, section 3.2).
    """
    percents, gap = [0], 22
    while percents[-1] + gap <= 100:
        percents.append(percents[-1] + gap)
        gap = max(gap - 3, 6)
    return sorted({-(-percent * steps // 100) for percent in percents})


def auto_step(network: nn.Module, attack: Attack) -> Step:
    """Return one step of Auto-PGD (Croce & Hein 2020, arXiv 2003.01690, algorithm 1) on a frozen ``network``.

    Its state is an ``AutoState``. Each step moves along the gradient by the image's own length, and a
    quarter as far as the step before. At checkpoints the length is halved, and the image put back to the best
    point so far, where less than three quarters of the steps since the last checkpoint lowered the loss,
    or where the length is what it was there and the lowest loss too.
    """
    ball, loss = BALLS[attack.norm], objective(attack)
    places = checkpoints(attack.steps)

    def pixels_of(images: Tensor, perturbation: Tensor) -> Tensor:
        return (images + ball.project(perturbation, attack.eps)).clamp(0, 1) - images

    def step(images: Tensor, perturbation: Tensor, labels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        kept = AutoState(*state)
        logits, losses, gradient = evaluated(network, loss, images + perturbation, labels)
        losses, direction = losses.detach().to(perturbation.dtype), ball.direction(-gradient)
        moving = labels >= 0
        better = losses < kept.best_loss
        if attack.stop_confidence is not None:
            moving = goal_confidence(logits.detach(), labels, attack.targeted) < attack.stop_confidence
            better = better | ~moving
        # What is kept comes first, whose strides the result then has: others would compile the step again.
        best = torch.where(_per_image(~better), kept.best, perturbation)
        towards = torch.where(_per_image(~better), kept.towards, direction)
        best_loss = torch.where(~better, kept.best_loss, losses)

        falls = kept.falls + (losses < kept.loss)
        gaps = [(kept.taken == place) * (place - before) for before, place in pairwise(places)]
        since_checkpoint = torch.stack(gaps).sum(0)
        checked = since_checkpoint > 0
        slow = falls < _LEAST_SHARE_OF_FALLS * since_checkpoint
        stuck = (kept.halved == 0) & (best_loss == kept.checked_loss)
        halve = checked & (slow | stuck)

        here = torch.where(_per_image(halve), best, perturbation)
        length = torch.where(halve, kept.length / 2, kept.length)
        move = _per_image(length) * torch.where(_per_image(halve), towards, direction)
        inertia = _INERTIA * _per_image(kept.taken > 0)
        onward = pixels_of(images, here + move)
        moved = here + (1 - inertia) * (onward - here) + inertia * (here - kept.previous)
        moved = torch.where(_per_image(moving), pixels_of(images, moved), perturbation)
        return (
            moved,
            moving,
            *AutoState(
                previous=here,
                best=best,
                towards=towards,
                loss=losses,
                best_loss=best_loss,
                checked_loss=torch.where(checked | (kept.taken == 0), best_loss, kept.checked_loss),
                length=length,
                falls=falls.masked_fill(checked, 0),
                halved=torch.where(checked, halve.to(length.dtype), kept.halved),
                taken=kept.taken + 1,
            ),
        )

    return step


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
