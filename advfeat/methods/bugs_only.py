"""Adversarial examples that no other network falls for: bugs, not features (Nakkiran 2019).

Source: distill.pub/2019/advex-bugs-discussion/response-5, "Adversarial Examples are Just Bugs, Too".
A network trained on them under their target labels does not learn the classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from advfeat.attacks import Engine, check_attackable, check_classes, objective, perturb, plainly
from advfeat.attacks.own_loss import with_settled_loss
from advfeat.errors import InputError
from advfeat.progress import Progress
from advfeat.spec import TargetedAttack


class ModelAndGuards(nn.Module):
    """A classifier of pairs (a, b): the model sees class a, and its guards see class b.

    A pair's logit is the model's loss towards a and the mean of the guards' losses towards b, negated.
    Pair (a, b) is class ``a * classes + b``, so that an attack on this network is an attack like any
    other, to which its restarts and its stopping apply.
    """

    def __init__(self, model: nn.Module, guards: Sequence[nn.Module], attack: TargetedAttack) -> None:
        super().__init__()
        self.model, self.guards = model, nn.ModuleList(guards)
        attack = with_settled_loss(attack)
        self._loss, self._name = objective(attack), attack.loss

    def extra_repr(self) -> str:
        """Name the loss, which a compiled step is known by too."""
        return self._name

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of all pairs (N, classes ** 2)."""
        moved = self._nearness(self.model(images))
        kept = torch.stack([self._nearness(guard(images)) for guard in self.guards]).mean(0)
        return (moved[:, :, None] + kept[:, None, :]).flatten(1)

    def _nearness(self, logits: Tensor) -> Tensor:
        """Return the loss towards each class, negated, (N, classes)."""
        count, classes = logits.shape
        every_class = torch.arange(classes, device=logits.device).repeat(count)
        losses = self._loss(logits.float().repeat_interleave(classes, 0), every_class)
        return -losses.view(count, classes)


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
    """Return adversarial examples towards ``targets`` for ``model`` that ``guards`` see as ``labels``.

    ``guards`` are networks for the same classes, trained apart from ``model``, on the same device;
    ``images`` are float32 (N, C, H, W) in [0, 1], ``targets`` and ``labels`` (the true classes) integers
    (N,). Each step descends on L(model, x, target) + mean over guards of L(guard, x, label), L being
    ``attack.loss``: with cross-entropy the loss that the post calls disentangled, with its weights. (The
    post has ten guards, and on CIFAR-10 L2 2.5 in 10 steps of 0.5.) Everything else is as in ``perturb``:
    the exact ball, ``seed`` and ``rows``, and an ``engine`` chosen from the work at hand if unset, for
    which the network is ``ModelAndGuards``. Raises ``InputError`` for images, targets, labels or guards
    that do not fit.
    """
    if not guards:
        raise InputError("guards", [], "is empty", "give at least one other network")
    for given in (targets, labels):
        check_attackable(images, given)
    if not len(images):
        return images.clone()
    with plainly(model):
        classes, _ = (check_classes(model, images, given) for given in (targets, labels))
    return perturb(
        ModelAndGuards(model, guards, attack),
        images,
        targets.long() * classes + labels.long(),
        attack.model_copy(update={"loss": "logit"}),
        seed=seed,
        rows=rows,
        engine=engine,
        progress=progress,
    )
