"""Images rebuilt from what a network keeps of them: the robust and the non-robust data set.

Ilyas et al. 2019, section 3.1: what a robust network keeps makes D_R, what a standard one keeps D_NR.
"""

import torch
from torch import Tensor, nn

from advfeat.attacks import BALLS, REFERENCE, fill_up, plainly
from advfeat.errors import InputError
from advfeat.hardware import device_of, keep_freed_memory
from advfeat.progress import Progress


def last_linear(model: nn.Module) -> nn.Linear | None:
    """Return the last linear layer, whose input is the representation; None if there is none."""
    return next((layer for layer in reversed(list(model.modules())) if isinstance(layer, nn.Linear)), None)


def representation_layer(model: nn.Module) -> nn.Linear:
    """Return the last linear layer; raises ``InputError`` if there is none."""
    layer = last_linear(model)
    if layer is None:
        raise InputError(
            "model", type(model).__name__, "has no linear layer", "choose a network that ends in one"
        )
    return layer


def representations(model: nn.Module, images: Tensor) -> Tensor:
    """Return what the model's last linear layer is given, (N, features), differentiable.

    ``images`` are float32 (N, C, H, W) in [0, 1], where the model's parameters lie.
    """
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
    """Return ``starts``, moved until the model represents each as it represents the image of ``targets``.

    Both are float32 (N, C, H, W) in [0, 1], on any device, and so is the result, on that of ``starts``;
    ``step_size`` is in pixel units. Descends on the Euclidean distance of the two representations by
    ``steps`` steps of that L2 length, clipped to [0, 1]. The model is used in evaluation mode, where its
    parameters lie, and left as it was found. An image depends neither on its neighbours nor on batches.

    As the authors' notebook does (MadryLab/robust_representations, ``image_inversion.ipynb``), but for its
    gradient through the last ReLU. In the paper each start is another image of the training set, or noise;
    1000 steps of length 0.1 are said of CIFAR-10 (not verified: in its appendix C). Raises ``InputError``
    for images of different shapes and for a model without a representation.
    """
    if starts.shape != targets.shape:
        raise InputError(
            "starts",
            tuple(starts.shape),
            f"is not the shape of the targets, {tuple(targets.shape)}",
            "give one start for each target",
        )
    where, ball = device_of(model), BALLS["l2"]
    rebuilt = torch.empty_like(starts)
    keep_freed_memory()
    with plainly(model):
        for rows in torch.arange(len(targets)).split(REFERENCE.tile):
            count = REFERENCE.fill(len(rows), where)
            images = fill_up(starts[rows], count).to(where)
            aims = representations(model, fill_up(targets[rows], count).to(where))
            for _ in range(steps):
                with torch.enable_grad():
                    images.requires_grad_()
                    # Steps have a fixed length: the square's direction is the distance's, and has no kink.
                    distances = (representations(model, images) - aims).square().sum()
                    (gradient,) = torch.autograd.grad(distances, images)
                images = (images.detach() - step_size * ball.direction(gradient)).clamp(0, 1)
            rebuilt[rows] = images[: len(rows)].to(rebuilt.device)
            if progress is not None:
                progress(int(rows[-1]) + 1, len(targets))
    return rebuilt
