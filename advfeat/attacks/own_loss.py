"""Losses of the user's own: ``FILE.py:FUNCTION``, called with logits (N, classes) and labels (N,) -> (N,)."""

from functools import cache
from typing import Any, TypeVar

import torch
from torch import Tensor

from advfeat.errors import InputError
from advfeat.extensions import read_function
from advfeat.extensions.functions import function_of, is_provided, told_of
from advfeat.spec import Attack, is_own_loss

SomeAttack = TypeVar("SomeAttack", bound=Attack)

_IMAGES, _CLASSES = 4, 10


def with_settled_loss(attack: SomeAttack) -> SomeAttack:
    """Return the attack with the content of an own loss in its name; raises ``InputError`` about ``loss``.

    A step that was compiled for one content never serves another.
    """
    if not is_own_loss(attack.loss) or is_provided(attack.loss):
        return attack
    return attack.model_copy(update={"loss": settled_loss(attack.loss)})


def settled_loss(name: str) -> str:
    """Return an own loss by a name that holds its content; raises ``InputError`` about ``loss``."""
    settled = name if is_provided(name) else read_function("loss", name).name
    own_loss(settled)
    return settled


@cache
@torch.inference_mode(False)
@torch.enable_grad()
def own_loss(name: str) -> Any:
    """Return a loss of the user's own, tried on a few logits.

    Raises ``InputError`` about ``loss`` unless it returns a value an image, that depends on this image's
    logits alone and lets gradients through to them.
    """

    def refused(problem: str, remedy: str) -> InputError:
        return InputError("loss", name, problem, remedy)

    loss = function_of(name)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn((_IMAGES, _CLASSES), generator=generator).requires_grad_()
    try:
        values = loss(logits, torch.arange(_IMAGES))
    except (Exception, SystemExit) as error:
        raise refused(
            f"fails: {told_of(error)}", "it is called with logits (N, classes), labels (N,)"
        ) from error
    if not isinstance(values, Tensor) or values.shape != (_IMAGES,) or not values.is_floating_point():
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise refused(
            f"returns {shape} for {_IMAGES} images",
            "return one value per image (N,), as with reduction='none'",
        )
    if not values.isfinite().all():
        raise refused("returns values that are not finite", "correct it")
    if not values.requires_grad:
        raise refused("passes no gradient on to the logits", "remove what detaches or rounds them")
    (gradient,) = torch.autograd.grad(values[0], logits, allow_unused=True)
    if gradient is None or not gradient[0].any():
        raise refused("passes no gradient on to the logits", "remove what detaches or rounds them")
    if gradient[1:].any():
        raise refused("mixes the images of a batch", "let each image's value depend only on its own logits")
    return loss
