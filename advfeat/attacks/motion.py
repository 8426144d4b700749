"""Whether an attack moved anything, and why not: what looks robust may only have no gradient."""

import torch
from torch import Tensor, nn

from advfeat.attacks.objectives import goal_confidence, objective
from advfeat.attacks.user_model import TWO_OF_ONE, logits_of
from advfeat.hardware import device_of
from advfeat.spec import Attack

_ROUNDING = 1e-6
"""How far arithmetic alone moves a pixel in [0, 1]."""

_SMALLEST_EPS = 1e-5
"""Below it, steps drown in the rounding of float32 pixels."""


def still(starts: Tensor, ends: Tensor) -> bool:
    """Tell whether no image (N, C, H, W) moved from where it started."""
    return bool(((ends - starts).abs() <= _ROUNDING).all())


def why_still(model: nn.Module, images: Tensor, labels: Tensor, attack: Attack) -> str:
    """Say that no image moved, and the likely cause; to be called within ``plainly``."""
    pixels, aims = images[:16].to(device_of(model)).detach().requires_grad_(), labels[:16]
    with torch.enable_grad():
        logits = logits_of(model, pixels)
        aims = aims.to(logits.device)
        loss = objective(attack)(logits, aims).sum()
        (gradient,) = torch.autograd.grad(loss, pixels, retain_graph=True)
        (of_logits,) = torch.autograd.grad(logits.square().sum(), pixels)
    confidence = goal_confidence(logits.detach(), aims, attack.targeted)
    if attack.eps < _SMALLEST_EPS:
        cause = f"eps {attack.eps:g} is less than float32 pixels in [0, 1] can show"
    elif attack.stop_confidence is not None and bool((confidence >= attack.stop_confidence).all()):
        cause = f"all reach the confidence of {attack.stop_confidence:g} as they are"
    elif logits.shape[1] == 1:
        cause = f"it returns one score, and so has no other class; {TWO_OF_ONE}"
    elif not gradient.isfinite().all():
        cause = (
            f"the gradient of {attack.loss} is NaN or infinite; does the model take a root or divide at zero?"
        )
    elif not of_logits.any():
        cause = "the gradient of the model's logits is zero; does it round, threshold or detach its input?"
    elif not gradient.any():
        cause = f"the gradient of {attack.loss} is zero, as where probabilities are 0 or 1; try another loss"
    else:
        cause = "each step leads out of the pixel range or the ball"
    return f"{type(model).__name__}: no image moved: {cause}"
