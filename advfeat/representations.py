"""Images rebuilt from what a network keeps of them (Ilyas et al. 2019, section 3.1)."""

import torch
from torch import Tensor, nn

from advfeat.balls import BALLS
from advfeat.engine import REFERENCE, fill_up
from advfeat.errors import InputError
from advfeat.hardware import device_of, true_fp32
from advfeat.progress import Progress

_STEPS_BETWEEN_REPORTS = 10


def representation_layer(model: nn.Module) -> nn.Linear:
    """Return the last linear layer, whose input is the representation; ``InputError`` if there is none."""
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear)]
    if not layers:
        raise InputError(
            "model", type(model).__name__, "has no linear layer", "choose a network that ends in one"
        )
    return layers[-1]


def representations(model: nn.Module, images: Tensor) -> Tensor:
    """Return what the model's last linear layer is given of each image, (N, features), differentiable."""
    inputs: list[Tensor] = []
    hook = representation_layer(model).register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    try:
        model(images)
    finally:
        hook.remove()
    return inputs[-1]


def rebuild(
    model: nn.Module,
    targets: Tensor,
    starts: Tensor,
    *,
    steps: int,
    step_size: float,
    progress: Progress | None = None,
) -> Tensor:
    network, where, ball = REFERENCE.prepare(model), device_of(model), BALLS["l2"]
    rebuilt, done = torch.empty_like(starts), 0
    with true_fp32():
        for rows in torch.arange(len(targets)).split(REFERENCE.tile):
            count = REFERENCE.fill(len(rows))
            images = fill_up(starts[rows], count).to(where)
            with torch.no_grad():
                aims = representations(network, fill_up(targets[rows], count).to(where))
            for number in range(1, steps + 1):
                pixels = images.requires_grad_()
                distance = (representations(network, pixels) - aims).square().sum()
                (gradient,) = torch.autograd.grad(distance, pixels)
                images = (pixels.detach() - step_size * ball.direction(gradient)).clamp(0, 1)
            rebuilt[rows] = images[: len(rows)].to(rebuilt.device)
    return rebuilt
