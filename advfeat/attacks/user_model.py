"""What a user's model has to be: a function from images to logits, with a gradient; left as it was found."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import chain
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from advfeat.attacks.rows import ROW_MULTIPLE, fill_up
from advfeat.errors import InputError, first_line
from advfeat.hardware import device_of, true_fp32

Given = Tensor | NDArray[Any] | Sequence[Any]
"""Images or labels as a caller has them."""

_SUM_OF_PROBABILITIES = 1e-3
"""How far from one a row of probabilities may add up to."""


def as_tensors(images: Given, labels: Given) -> tuple[Tensor, Tensor]:
    """Return images and labels as tensors, NumPy arrays and lists too; of those, pixels become float32.

    Raises ``InputError`` for anything else. What inference mode made is copied: it could have no gradient.
    """
    given = []
    for name, values in (("images", images), ("labels", labels)):
        if isinstance(values, Tensor):
            given.append(values.clone() if values.is_inference() else values)
            continue
        try:
            tensor = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError) as error:
            problem = f"is no tensor ({first_line(error)})"
            raise InputError(
                name, type(values).__name__, problem, "give a tensor or a NumPy array"
            ) from error
        given.append(tensor.float() if name == "images" and tensor.is_floating_point() else tensor)
    return given[0], given[1]


def attackable(model: Any) -> nn.Module:
    """Return a model whose parameters may take part in gradients: the model itself, or a copy of it.

    Raises ``InputError`` for what is no module, is lazy and has seen no images, or lies on torch's ``meta``
    device.
    """
    if not isinstance(model, nn.Module):
        remedy = "wrap it in a torch.nn.Module whose forward calls it"
        raise InputError("model", type(model).__name__, "is no torch.nn.Module", remedy)
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
    back into its own mode, and every parameter may have a gradient again, afterwards.
    """
    modes = [(module, module.training) for module in model.modules()]
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    where = device_of(model)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(where.type, enabled=False))
        stack.enter_context(true_fp32())
        try:
            model.eval()
            for parameter in wanted:
                parameter.requires_grad_(False)
            yield
        finally:
            for parameter in wanted:
                parameter.requires_grad_(True)
            for module, mode in modes:
                module.training = mode


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    """Return a model's logits (N, classes) for ``images``, on its device; to be called within ``plainly``.

    The model sees at least 16 images: what it squeezes or averages over images shows. Raises
    ``InputError`` for a model that does not take float32 images, or returns anything but logits.
    """
    seen = fill_up(images, max(len(images), ROW_MULTIPLE)).to(device_of(model))
    try:
        found = model(seen)
    except Exception as error:  # what a user's forward raises has no common type
        raise _refused_images(model, seen, error) from error
    return _checked(model, found, len(seen))[: len(images)]


def differentiable_logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return logits as ``logits_of`` does; raise ``InputError`` too if no gradient leads to the images."""
    pixels = images.to(device_of(model)).detach().requires_grad_()
    with torch.enable_grad():
        logits = logits_of(model, pixels)
    if not logits.requires_grad:
        raise InputError(
            "model",
            _name(model),
            "lets no gradient through to its images",
            "its forward must not detach or round them, nor run under no_grad; wrap one that does not",
        )
    return logits


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
        part = "['logits']" if isinstance(found, dict) else "[0]"
        part = ".logits" if hasattr(found, "logits") else part
        remedy = f"wrap it in a module that returns model(images){part}"
        raise _no_logits(model, f"a {type(found).__name__}", remedy)
    shape = tuple(found.shape)
    if found.ndim != 2 or len(found) != rows or not found.is_floating_point():
        remedy = "wrap it in a module that returns a row of class scores for each image"
        if shape == (rows,):
            remedy = "of one score make two: wrap it in a module that returns stack([0 * score, score], 1)"
        kind = str(found.dtype).removeprefix("torch.")
        raise _no_logits(model, f"{kind} {shape} for {rows} images", remedy)
    if not found.isfinite().all():
        raise _no_logits(model, "NaN or infinity", "check its weights and its normalization")
    sums_to_one = ((found.sum(1) - 1).abs() < _SUM_OF_PROBABILITIES).all()
    if shape[1] > 1 and (found >= 0).all() and sums_to_one:
        remedy = "leave its softmax out, or wrap it in a module that returns their logarithm"
        raise _no_logits(model, "probabilities", remedy)
    return found


def _no_logits(model: nn.Module, found: str, remedy: str) -> InputError:
    return InputError("model", _name(model), f"returns {found}, not logits (N, classes)", remedy)


def _name(model: nn.Module) -> str:
    return type(model).__name__
