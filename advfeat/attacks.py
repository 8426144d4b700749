"""Projected gradient descent (Madry et al. 2018) on images in [0, 1].

All attacks share one loop; a norm is three small functions. What is returned lies exactly in the
ball and in [0, 1]: measured in float64 on the float32 pixels, without tolerance.
"""

from collections.abc import Callable
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advfeat.progress import Progress
from advfeat.spec import Attack


class Ball(Protocol):
    """The geometry of one norm; perturbations are (N, C, H, W)."""

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Return the nearest perturbations of norm at most eps."""

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the steepest unit step along each gradient; zero where the gradient is zero."""

    def random_point(self, like: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        """Draw perturbations uniformly from the ball of radius eps."""


class L2Ball:
    """Euclidean norm over all pixels and channels."""

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""
        length: Tensor = torch.linalg.vector_norm(perturbation.flatten(1), dim=1)
        return length

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Scale back what is longer than eps."""
        factor = eps / self.length(perturbation).clamp_min(eps)
        return perturbation * _per_image(factor)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return gradients of length one."""
        return gradient / _per_image(self.length(gradient).clamp_min(torch.finfo(gradient.dtype).tiny))

    def random_point(self, like: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        """Draw a uniform direction and the radius that makes the ball's volume uniform."""
        towards = self.direction(_drawn(torch.randn, like.shape, like, generator))
        radius = _drawn(torch.rand, like.shape[:1], like, generator) ** (1 / like[0].numel())
        return eps * towards * _per_image(radius)


class LinfBall:
    """Largest change of any pixel and channel."""

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""
        return perturbation.flatten(1).abs().amax(dim=1)

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Clip every pixel to [-eps, eps]."""
        return perturbation.clamp(-eps, eps)

    def direction(self, gradient: Tensor) -> Tensor:
        """Return the gradient's sign."""
        return gradient.sign()

    def random_point(self, like: Tensor, eps: float, generator: torch.Generator) -> Tensor:
        """Draw every pixel uniformly from [-eps, eps]."""
        return eps * (2 * _drawn(torch.rand, like.shape, like, generator) - 1)


BALLS: dict[str, Ball] = {"l2": L2Ball(), "linf": LinfBall()}


def perturb(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attack: Attack,
    *,
    seed: int = 0,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> Tensor:
    """Return adversarial examples for ``images``, towards or away from ``labels``.

    ``images`` are float32 (N, C, H, W) in [0, 1], ``labels`` integers (N,): the target classes if
    ``attack.targeted``, else the classes to leave. The model takes such images, is used in
    evaluation mode and left as it was found. ``seed`` matters for random starts only. With
    ``attack.norm == "l2"``, ``targeted`` and no random start this is the attack of Ilyas et al.
    (2019), section 3.2.
    """
    was_training = model.training
    tracked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    generator = torch.Generator(images.device).manual_seed(seed)
    done: list[Tensor] = []
    model.eval().requires_grad_(False)
    try:
        for start in range(0, len(images), batch_size):
            batch = slice(start, start + batch_size)
            done.append(_descend(model, images[batch], labels[batch], attack, generator))
            if progress is not None:
                progress(min(start + batch_size, len(images)), len(images))
    finally:
        model.train(was_training)
        for parameter in tracked:
            parameter.requires_grad_(True)
    return torch.cat(done) if done else images.clone()


def _descend(
    model: nn.Module, images: Tensor, labels: Tensor, attack: Attack, generator: torch.Generator
) -> Tensor:
    ball = BALLS[attack.norm]
    towards = -attack.step_length if attack.targeted else attack.step_length
    perturbation = torch.zeros_like(images)
    if attack.random_start:
        perturbation = ball.random_point(images, attack.eps, generator)
        perturbation = (images + perturbation).clamp(0, 1) - images
    for _ in range(attack.steps):
        candidate = (images + perturbation).requires_grad_()
        loss = F.cross_entropy(model(candidate), labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, candidate)
        perturbation = ball.project(perturbation + towards * ball.direction(gradient), attack.eps)
        perturbation = (images + perturbation).clamp(0, 1) - images
    return within(images, images + perturbation, ball, attack.eps)


def within(images: Tensor, adversarial: Tensor, ball: Ball, eps: float) -> Tensor:
    """Mend what float32 rounding put outside the ball or [0, 1], exactly.

    A perturbation that is too long is shortened a little until it fits; one that no float32
    pixels can represent inside the ball is dropped.
    """
    adversarial = adversarial.clamp(0, 1)
    for shortening in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0):
        length = ball.length(adversarial.double() - images.double())
        outside = length > eps
        if not outside.any():
            break
        factor = torch.where(outside, (eps / length) * (1 - shortening), 1.0)
        shorter = images.double() + (adversarial.double() - images.double()) * _per_image(factor)
        adversarial = torch.where(_per_image(outside), shorter.to(images.dtype), adversarial)
    return adversarial


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)


def _drawn(
    draw: Callable[..., Tensor], shape: torch.Size, like: Tensor, generator: torch.Generator
) -> Tensor:
    return draw(shape, generator=generator, device=like.device, dtype=like.dtype)
