"""Adversarial examples without features: they move one network, and no other (Nakkiran 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advfeat.attacks import perturb
from advfeat.engine import Engine
from advfeat.objectives import objective
from advfeat.progress import Progress
from advfeat.spec import TargetedAttack


class Pairs(nn.Module):
    def __init__(self, model: nn.Module, guards: Sequence[nn.Module], attack: TargetedAttack) -> None:
        super().__init__()
        self.model, self.guards = model, nn.ModuleList(guards)
        self._loss = objective(attack)

    def forward(self, images: Tensor) -> Tensor:
        towards = self._nearness(self.model(images))
        kept = torch.stack([self._nearness(guard(images)) for guard in self.guards]).mean(0)
        return (towards[:, :, None] + kept[:, None, :]).flatten(1)

    def _nearness(self, logits: Tensor) -> Tensor:
        """Return the loss of every class (N, classes), negated."""
        count, classes = logits.shape
        every = torch.arange(classes, device=logits.device).repeat(count)
        return -self._loss(logits.float().repeat_interleave(classes, 0), every).view(count, classes)


def perturb_without_transfer(
    model: nn.Module,
    guards: Sequence[nn.Module],
    images: Tensor,
    targets: Tensor,
    labels: Tensor,
    attack: TargetedAttack,
    *,
    seed: int,
    rows: Sequence[int] | None = None,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Tensor:
    classes = model(images[:1]).shape[1]
    pairs = targets * classes + labels
    return perturb(
        Pairs(model, guards, attack),
        images,
        pairs,
        attack.model_copy(update={"loss": "logit"}),
        seed=seed,
        rows=rows,
        engine=engine,
        progress=progress,
    )
