"""What a source model takes a data set's images for: its fp32 predictions, which bf16 mostly decides.

An H100 attacks in fp32 without TF32 at a fifteenth of its speed in bf16 (8,199 against 121,571 image-steps a
second, ResNet-18): to predict an image before and after in fp32 is as much work as 15 steps. So bf16 is asked
first, and fp32 where the two likeliest classes are near.

How near is told by the images themselves: of some, drawn at random, both logits are computed, and the
furthest that bf16 moves two classes of theirs against each other is taken ``_SAFETY`` times. Measured on a
cnn and a resnet9 (by AMX on a CPU; real, attacked and noise images, 5,994 in all): the furthest of all images
was at most 1.35 times the furthest of 128 of them. bf16 told another class of two images, whose two likeliest
were nearer than half of that. 0 to 12 % of the images were left for fp32. What fp32 tells of these is held
against the bound once more.
"""

import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.attacks import Engine, fill_up
from advfeat.errors import first_line
from advfeat.hardware import device, device_of, has_bf16, sent
from advfeat.models import Normalized, logits, predict
from advfeat.spec import Precision

_SAFETY = 8
"""How many times the largest departure of the probes a margin must be for bf16 to decide."""

_ROUNDING = 2.0**-8
"""Of bf16: no departure counts as less than this share of the largest logit."""

_PROBE_SHARE = 16
"""One image in so many is a probe."""

_LEAST_IMAGES = 1024
"""Of fewer there are too few probes."""

_BATCH_SIZE = 512
_ENGINE = Engine("bf16", optimized=True, tile=_BATCH_SIZE)
_OUR_MODULES = ("torch.", "torchvision.", "advfeat.")


def source_predictions(model: Normalized, images: Tensor, precision: Precision = "auto") -> NDArray[np.int64]:
    """Return the likeliest class of each image in fp32, (N,); images float32 (N, C, H, W) in [0, 1].

    On a GPU with bf16 that decides where it surely can, unless ``precision`` is fp32. A user's own network,
    which may jump where bf16 rounds, is asked in fp32 alone.
    """
    where = device()
    if where.type == "cpu" or not has_bf16(where) or precision == "fp32" or not _is_ours(model):
        return predict(model, images)
    return screened(model.to(where), images)


def screened(model: Normalized, images: Tensor) -> NDArray[np.int64]:
    """Return fp32's predictions (N,), computed where bf16 may be mistaken; on the model's device.

    Where bf16 cannot be used, or departs in a way that probes did not show, that is a warning, and all are
    computed in fp32.
    """
    count = len(images)
    if count < _LEAST_IMAGES:
        return predict(model, images)
    quick, problem = None, ""
    try:
        quick = _quick_logits(_ENGINE.prepare(model), images)
    except Exception as error:  # what tracers, kernels and a full memory raise has no common type
        problem = first_line(error)  # which alone is kept: the error holds what fills the memory
    if quick is None:
        return _all_in_fp32(model, images, f"bf16 cannot be asked: {problem}")
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
    probes = order[: count // _PROBE_SHARE]
    exact = logits(model, images[probes])
    largest = max(float(_departures(quick[probes], exact).max()), _ROUNDING * float(quick.abs().max()))
    bound = _SAFETY * largest
    answers = quick.argmax(1)
    answers[probes] = exact.argmax(1)

    asked = torch.zeros(count, dtype=torch.bool)
    asked[probes] = True
    likeliest = quick.topk(2).values
    doubtful = ~(likeliest[:, 0] - likeliest[:, 1] > bound) & ~asked  # also what is not a number
    if doubtful.float().mean() > 0.5:
        return predict(model, images)
    if doubtful.any():
        exact = logits(model, images[doubtful])
        if not _departures(quick[doubtful], exact).max() <= bound / 2:
            return _all_in_fp32(model, images, "bf16 departs from fp32 further than it did on other images")
        answers[doubtful] = exact.argmax(1)
    return answers.numpy()


@torch.inference_mode()
def _quick_logits(network: nn.Module, images: Tensor) -> Tensor:
    where, found = device_of(network), []
    for batch in images.split(_BATCH_SIZE):
        filled = sent(fill_up(batch, _BATCH_SIZE), where).contiguous(memory_format=_ENGINE.layout)
        found.append(network(filled)[: len(batch)])
    return torch.cat(found).float().cpu()


def _departures(quick: Tensor, exact: Tensor) -> Tensor:
    """Return how far bf16 moves two classes of an image against each other at most, (N,)."""
    moved = quick - exact
    return moved.amax(1) - moved.amin(1)


def _all_in_fp32(model: Normalized, images: Tensor, why: str) -> NDArray[np.int64]:
    warnings.warn(f"the source model is asked in fp32 alone ({why})", stacklevel=3)
    return predict(model, images)


def _is_ours(model: Normalized) -> bool:
    return all(type(module).__module__.startswith(_OUR_MODULES) for module in model.modules())
