"""The norms of an attack: each is the geometry of its ball, in four small functions.

Perturbations are (N, C, H, W); N may be anything.
"""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Protocol

import torch
from torch import Tensor

Generators = Sequence[torch.Generator]
"""On the CPU, one for each image, so that no image's draws depend on which others are with it."""

_L1_SHARE = 0.01
"""Share of the values that one L1 step moves (Tramèr & Boneh 2019, the sparse l1-descent attack)."""


class Ball(Protocol):
    """The geometry of one norm; ``sparse`` if a step moves few values, and so must choose among them."""

    sparse: bool

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Return perturbations of norm at most eps, none of whose values has grown."""

    def direction(self, descent: Tensor) -> Tensor:
        """Return the step of length one along ``descent``; zero where that is zero."""

    def random_points(self, shape: Sequence[int], eps: float, generators: Generators) -> Tensor:
        """Draw a perturbation (C, H, W) from each generator, uniformly from the ball of radius eps."""


class L2Ball:
    """Euclidean norm over all pixels and channels."""

    sparse = False

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""
        length: Tensor = torch.linalg.vector_norm(perturbation, dim=(1, 2, 3))
        return length

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Scale back what is longer than eps."""
        return perturbation * _per_image(eps / self.length(perturbation).clamp_min(eps))

    def direction(self, descent: Tensor) -> Tensor:
        """Return the descent at length one."""
        return descent / _per_image(self.length(descent).clamp_min(torch.finfo(descent.dtype).tiny))

    def random_points(self, shape: Sequence[int], eps: float, generators: Generators) -> Tensor:
        """Draw a uniform direction and the radius that makes the ball's volume uniform."""
        towards = self.direction(_drawn(torch.randn, shape, generators))
        radius = _drawn(torch.rand, (), generators) ** (1 / prod(shape))
        return eps * towards * _per_image(radius)


class LinfBall:
    """Largest change of any value."""

    sparse = False

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""
        return perturbation.abs().amax(dim=(1, 2, 3))

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Clip every value to [-eps, eps]."""
        return perturbation.clamp(-eps, eps)

    def direction(self, descent: Tensor) -> Tensor:
        """Return the descent's sign."""
        return descent.sign()

    def random_points(self, shape: Sequence[int], eps: float, generators: Generators) -> Tensor:
        """Draw every value uniformly from [-eps, eps]."""
        return eps * (2 * _drawn(torch.rand, shape, generators) - 1)


class L1Ball:
    """Sum of the changes of all values."""

    sparse = True

    def length(self, perturbation: Tensor) -> Tensor:
        """Return the norm of each perturbation, shape (N,)."""
        return perturbation.abs().sum(dim=(1, 2, 3))

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Take the nearest point of the ball: every value shrinks by the same amount (Duchi et al. 2008)."""
        flat = perturbation.flatten(1)
        largest_first = flat.abs().sort(dim=1, descending=True).values
        count = torch.arange(1, flat.shape[1] + 1, device=flat.device)
        shrinkage = (largest_first.cumsum(1) - eps) / count
        kept = (largest_first > shrinkage).sum(1, keepdim=True).clamp_min(1)
        threshold = shrinkage.gather(1, kept - 1).clamp_min(0)
        return (flat.sign() * (flat.abs() - threshold).clamp_min(0)).view_as(perturbation)

    def direction(self, descent: Tensor) -> Tensor:
        """Move the steepest hundredth of the values, all by the same amount."""
        flat = descent.flatten(1)
        count = max(1, round(_L1_SHARE * flat.shape[1]))
        chosen = flat.abs().topk(count, dim=1).indices
        step = torch.zeros_like(flat).scatter(1, chosen, flat.gather(1, chosen).sign() / count)
        return step.view_as(descent)

    def random_points(self, shape: Sequence[int], eps: float, generators: Generators) -> Tensor:
        """Draw from the ball's volume: exponential values, one of which is left out of the sum."""
        sizes = -_drawn(torch.rand, (prod(shape) + 1,), generators).clamp_min(1e-30).log()
        signs = 2 * _drawn(partial(torch.randint, 0, 2), shape, generators) - 1
        # Each by itself: several threads would add up those of one image in another order than those of many.
        sums = torch.stack([each.sum() for each in sizes])
        return eps * signs * (sizes / sums.unsqueeze(1))[:, :-1].view_as(signs)


class L0Ball:
    """Number of values (pixels times channels) that change; how far each one may go is not limited."""

    sparse = True

    def length(self, perturbation: Tensor) -> Tensor:
        """Return how many values of each perturbation are not zero, shape (N,)."""
        return perturbation.ne(0).sum(dim=(1, 2, 3)).to(perturbation.dtype)

    def project(self, perturbation: Tensor, eps: float) -> Tensor:
        """Keep the eps largest values (Croce & Hein 2019, "Sparse and imperceivable adversarial attacks")."""
        flat = perturbation.flatten(1)
        chosen = flat.abs().topk(min(int(eps), flat.shape[1]), dim=1).indices
        return torch.zeros_like(flat).scatter(1, chosen, flat.gather(1, chosen)).view_as(perturbation)

    def direction(self, descent: Tensor) -> Tensor:
        """Move by the descent, scaled so that the steepest value goes by one."""
        largest = descent.abs().amax(dim=(1, 2, 3), keepdim=True)
        return descent / largest.clamp_min(torch.finfo(descent.dtype).tiny)

    def random_points(self, shape: Sequence[int], eps: float, generators: Generators) -> Tensor:
        """Draw which values change and, uniformly from [-1, 1], by how much."""
        sizes = 2 * _drawn(torch.rand, shape, generators) - 1
        order = _drawn(torch.rand, shape, generators).flatten(1)
        chosen = order.topk(min(int(eps), order.shape[1]), dim=1).indices
        mask = torch.zeros_like(order).scatter(1, chosen, 1.0)
        return sizes * mask.view_as(sizes)


BALLS: dict[str, Ball] = {"l2": L2Ball(), "linf": LinfBall(), "l1": L1Ball(), "l0": L0Ball()}


def movable(descent: Tensor, pixels: Tensor) -> Tensor:
    """Return the descent without the values that stand at a bound of [0, 1] and would leave it."""
    stuck = ((pixels <= 0) & (descent < 0)) | ((pixels >= 1) & (descent > 0))
    return descent.masked_fill(stuck, 0)


def within(images: Tensor, adversarial: Tensor, ball: Ball, eps: float) -> Tensor:
    """Mend what float32 rounding put outside the ball or [0, 1], exactly.

    Lengths are measured in float64. A perturbation that is too long is projected onto a ball a little
    smaller until it fits, and rounded towards the image where that does not help; one that is NaN is
    dropped.
    """
    undefined = _per_image(adversarial.isnan().flatten(1).any(1))
    adversarial = torch.where(undefined, images, adversarial.clamp(0, 1))
    for shortening in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        perturbation = adversarial.double() - images.double()
        outside = _per_image(ball.length(perturbation) > eps)
        if not outside.any():
            return adversarial
        shorter = images.double() + ball.project(perturbation, eps * (1 - shortening))
        adversarial = torch.where(outside, shorter.to(images.dtype), adversarial)
    perturbation = adversarial.double() - images.double()
    outside = _per_image(ball.length(perturbation) > eps)
    shorter = _rounded_towards(images, ball.project(perturbation, eps * (1 - 1e-2)))
    adversarial = torch.where(outside, shorter, adversarial)
    outside = _per_image(ball.length(adversarial.double() - images.double()) > eps)
    return torch.where(outside, images, adversarial)


def _rounded_towards(images: Tensor, perturbation: Tensor) -> Tensor:
    """Put a float64 perturbation on the images so that rounding makes no value of it larger."""
    rounded = (images.double() + perturbation).to(images.dtype)
    larger = (rounded.double() - images.double()).abs() > perturbation.abs()
    return torch.where(larger, torch.nextafter(rounded, images), rounded)


def _drawn(draw: Callable[..., Tensor], shape: Sequence[int], generators: Generators) -> Tensor:
    """Draw a float32 tensor of a shape from each generator, whatever torch's default type and device are."""
    drawn = torch.empty((len(generators), *shape), dtype=torch.float32, device="cpu")
    for each, generator in zip(drawn, generators, strict=True):
        draw(tuple(shape), generator=generator, dtype=torch.float32, device="cpu", out=each)
    return drawn


def _per_image(values: Tensor) -> Tensor:
    return values.view(-1, 1, 1, 1)
