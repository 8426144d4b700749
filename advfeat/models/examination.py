"""Looks at a network of the user's own before anything is computed with it: each kind is built once."""

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from advfeat.errors import InputError
from advfeat.extensions.functions import told_of
from advfeat.files.tensor_file import check_alike, pack, unpack
from advfeat.models.architectures import build
from advfeat.models.normalized import Normalized

_IMAGES = 4


@cache
def examined(name: str, width: int, image_shape: tuple[int, ...], classes: int) -> float:
    """Return how many floating-point operations a network takes for one image, forward.

    Raises ``InputError`` about ``model`` unless it trains, tells logits (N, classes) alike each time, lets
    gradients through to the images, and can be stored and built again from its weights.
    """

    def refused(problem: str, remedy: str) -> InputError:
        return InputError("model", name, problem, remedy)

    def built() -> Normalized:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return build(name, width=width, image_shape=image_shape, classes=classes)

    model = built()
    images = torch.rand((_IMAGES, *image_shape), generator=torch.Generator().manual_seed(0))
    try:
        _check_weights(model, built(), refused)
        with torch.random.fork_rng():
            model.train()(images)
        model.eval()
        counter = FlopCounterMode(display=False)
        with torch.no_grad(), counter:
            logits = model(images)
        _check_logits(logits, classes, refused)
        with torch.no_grad():
            again = model(images)
        if not torch.equal(logits, again):
            raise refused("returns other logits each time in evaluation mode", "draw nothing at random there")
        pixels = images.requires_grad_()
        (gradient,) = torch.autograd.grad(model(pixels).square().sum(), pixels, allow_unused=True)
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        channels, height, across = image_shape
        problem = f"fails on images of {channels} x {height} x {across}: {told_of(error)}"
        raise refused(problem, "correct it, or set data.image_size") from error
    if gradient is None or not gradient.any():
        raise refused("passes no gradient on to the images", "remove what detaches or rounds them")
    return counter.get_total_flops() / _IMAGES


def _check_weights(model: nn.Module, other: nn.Module, refused: Any) -> None:
    """Refuse what cannot be stored, or is not drawn from torch's generator."""
    if not any(weights.requires_grad for weights in model.parameters()):
        raise refused("has no weights to train", "give parameters that require gradients")
    stored, _ = unpack(pack(model.state_dict(), {"network": ""}), "network")
    check_alike(stored, model.state_dict())
    ours, theirs = model.state_dict(), other.state_dict()
    if ours.keys() != theirs.keys() or not all(torch.equal(ours[name], theirs[name]) for name in ours):
        raise refused("starts with other weights each time", "draw them only from torch's default generator")


def _check_logits(logits: Tensor, classes: int, refused: Any) -> None:
    if not isinstance(logits, Tensor):
        raise refused(f"returns {type(logits).__name__}", f"return a tensor of logits (N, {classes})")
    if logits.shape != (_IMAGES, classes) or not logits.is_floating_point():
        told = f"returns {tuple(logits.shape)} {logits.dtype} for {_IMAGES} images"
        raise refused(told, f"return logits (N, {classes}): it is given classes={classes}")
    if not logits.isfinite().all():
        raise refused("returns logits that are not finite", "correct it")
    if bool((logits >= 0).all()) and torch.allclose(logits.sum(1), torch.ones(_IMAGES), atol=1e-4):
        raise refused("returns probabilities", "leave out the softmax at its end: logits are wanted")
