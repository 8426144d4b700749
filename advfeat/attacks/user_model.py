"""What a user's model has to be: a function from images to logits, with a gradient; left as it was found."""

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from advfeat.attacks.rows import ROW_MULTIPLE, fill_up
from advfeat.errors import InputError, first_line
from advfeat.hardware import device_of, true_fp32

TWO_OF_ONE = "wrap it in a module that returns stack([0 * score, score], 1)"
"""What makes a model of one score, as of a binary classifier, one of two classes."""

_SUM_OF_PROBABILITIES = 1e-3
"""How far from one a row of probabilities may add up to."""


def attackable(model: Any) -> nn.Module:
    """Return a model whose parameters may take part in gradients: the model itself, or a copy of it.

    Raises ``InputError`` for what is no module, is lazy and has seen no images, or lies on torch's ``meta``
    device.
    """
    if not isinstance(model, nn.Module):
        remedy = "wrap it in a torch.nn.Module whose forward calls it"
        raise InputError("model", type(model).__name__, "is not a torch.nn.Module", remedy)
    tensors = list(chain(model.parameters(), model.buffers()))
    if any(is_lazy(tensor) for tensor in tensors):
        raise InputError("model", _name(model), "has no weights yet", "show it one image first")
    if any(tensor.is_meta for tensor in tensors):
        raise InputError("model", _name(model), "has no weights, only their shapes", "load its weights first")
    return copy.deepcopy(model) if any(tensor.is_inference() for tensor in tensors) else model


@contextmanager
def plainly(model: nn.Module) -> Iterator[None]:
    """Compute in true fp32 with the model frozen and in evaluation mode, whatever the caller's context is.

    Neither inference mode nor autocast reaches in, and no graph is kept. Every part of the model is put
    back into its own mode, every buffer has its values, and every parameter may have a gradient again,
    afterwards.
    """
    modes = [(module, module.training) for module in model.modules() if hasattr(module, "training")]
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in model.modules()
        for name, buffer in module.named_buffers(recurse=False)
    ]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    where = device_of(model)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(where.type, enabled=False))
        stack.enter_context(true_fp32())
        try:
            evaluated(model)
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
            for module, mode in modes:
                module.training = mode
            for module, name, buffer, values in buffers:
                if getattr(module, name) is not buffer and not isinstance(module, torch.jit.ScriptModule):
                    setattr(module, name, buffer)
                if not torch.equal(buffer, values):
                    buffer.copy_(values)


def evaluated(model: nn.Module) -> None:
    """Put a model into evaluation mode.

    What ``torch.export`` made stays in the mode that it was made in. Recurrent layers without dropout
    compute the same in either mode, and cuDNN differentiates them in training mode alone.
    """
    with suppress(NotImplementedError):
        model.eval()
    for module in model.modules():
        if isinstance(module, nn.RNNBase) and not module.dropout:
            module.training = True


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return a model's logits (N, classes) for ``images``, on its device; to be called within ``plainly``.

    The model sees at least 16 images, as an attack shows them: what it squeezes or averages over images
    shows, and its hooks find gradients. Raises ``InputError`` for a model that does not take float32
    images, or returns anything but logits.
    """
    return _asked(model, _seen(model, images))[: len(images)]


def differentiable_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits as ``logits_of`` does; raise ``InputError`` too if no gradient leads to the images."""
    pixels = _seen(model, images).detach().requires_grad_()
    logits, gradient = _asked(model, pixels), None
    if logits.requires_grad:
        weights = torch.ones_like(logits)
        try:
            (gradient,) = torch.autograd.grad(logits, pixels, weights, allow_unused=True)
        except Exception as error:  # nor have what backward hooks raise
            problem = f"cannot be differentiated ({first_line(error)})"
            remedy = "wrap a module whose operations all have gradients"
            raise InputError("model", _name(model), problem, remedy) from error
    if gradient is None:
        raise InputError(
            "model",
            _name(model),
            "passes no gradient on to its images",
            "its forward must not detach, round or quantize them, nor run under no_grad; "
            "wrap one that does not",
        )
    return logits.detach()[: len(images)]


def _seen(model: nn.Module, images: Tensor) -> Tensor:
    return fill_up(images, max(len(images), ROW_MULTIPLE)).to(device_of(model))


def _asked(model: nn.Module, images: Tensor) -> Tensor:
    with torch.enable_grad():
        pixels = images if images.requires_grad else images.requires_grad_()
        try:
            found = model(pixels)
        except torch.OutOfMemoryError:  # of too many images at once
            raise
        except Exception as error:  # what a user's forward raises has no common type
            raise _refused_images(model, images, error) from error
    return _checked(model, found, len(images))


def _refused_images(model: nn.Module, images: Tensor, error: Exception) -> InputError:
    """Name the likely cause of a forward that fails."""
    tensors = list(chain(model.parameters(), model.buffers()))
    types = {tensor.dtype for tensor in tensors if tensor.is_floating_point()} - {torch.float32}
    places = {str(tensor.device) for tensor in tensors}
    if types:
        (kind, *_) = sorted(str(one).removeprefix("torch.") for one in types)
        problem, remedy = f"has {kind} weights and fails on float32 images", "give model.float()"
    elif len(places) > 1:
        problem, remedy = f"lies on {' and '.join(sorted(places))}", "move it with model.to(device)"
    else:
        problem = f"fails on float32 images {tuple(images.shape)}"
        remedy = "give a module that takes such images in [0, 1], or wrap it in one that does"
    return InputError("model", _name(model), f"{problem} ({first_line(error)})", remedy)


def _checked(model: nn.Module, found: Any, rows: int) -> Tensor:
    """Return what a model gave, if it is logits."""
    if not isinstance(found, Tensor):
        remedy = f"wrap it in a module that returns model(images){_part_with_logits(found)}"
        raise _no_logits(model, f"a {type(found).__name__}", remedy)
    shape = tuple(found.shape)
    if found.ndim != 2 or shape[0] != rows or not found.is_floating_point():
        remedy = "wrap it in a module that returns a row of class scores for each image"
        if shape == (rows,):
            remedy = f"of one score make two: {TWO_OF_ONE}"
        kind = str(found.dtype).removeprefix("torch.")
        raise _no_logits(model, f"{kind} {shape} for {rows} images", remedy)
    if not found.isfinite().all():
        raise _no_logits(model, "NaN or infinity", "check its weights and its normalization")
    tolerance = max(_SUM_OF_PROBABILITIES, 2 * torch.finfo(found.dtype).eps)
    sums_to_one = ((found.float().sum(1) - 1).abs() < tolerance).all()
    if shape[1] > 1 and (found >= 0).all() and sums_to_one:
        remedy = "leave its softmax out, or wrap it in a module that returns their logarithm"
        raise _no_logits(model, "probabilities", remedy)
    return found


def _part_with_logits(found: Any) -> str:
    """Say where in what a model returned the logits may be."""
    if hasattr(found, "logits"):
        return ".logits"
    if isinstance(found, dict):
        return f"[{next((name for name in found if name == 'logits'), next(iter(found), 'logits'))!r}]"
    return "[0]"


def _no_logits(model: nn.Module, found: str, remedy: str) -> InputError:
    return InputError("model", _name(model), f"returns {found}, not logits (N, classes)", remedy)


def _name(model: nn.Module) -> str:
    return type(model).__name__
