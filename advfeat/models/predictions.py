"""What a network predicts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.errors import DeviceFullError, first_line
from advfeat.hardware import device, in_words, keep_freed_memory, true_fp32
from advfeat.models.normalized import as_pixels

_BATCH_SIZES = {"cpu": 128, "cuda": 512}
"""On a processor as few as leave the activations in its cache: twice the speed of 512, the same bits."""

_HALVINGS = 2
"""How often a batch that a GPU's memory does not hold is halved."""


def predict(model: nn.Module, images: Tensor) -> NDArray[np.int64]:
    """Return the most likely class of each image, shape (N,); images uint8 or float32 in [0, 1]."""
    return logits(model, images).argmax(1).numpy()


def probabilities(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Return the softmax of the logits, float32 (N, classes); images uint8 or float32 in [0, 1]."""
    return logits(model, images).softmax(1).numpy()


@torch.inference_mode()
def logits(model: nn.Module, images: Tensor) -> Tensor:
    """Return the logits, float32 (N, classes), on the CPU; images uint8 or float32 in [0, 1].

    The model is moved to the accelerator if there is one, and left in evaluation mode. Raises
    ``DeviceFullError`` where a quarter of a batch does not fit a GPU's memory.
    """
    keep_freed_memory()
    where = device()
    model, size = model.to(where).eval(), _BATCH_SIZES[where.type]
    with true_fp32():
        return torch.cat([_logits(model, batch, where, _HALVINGS) for batch in images.split(size)])


def _logits(model: nn.Module, batch: Tensor, where: torch.device, halvings: int) -> Tensor:
    """Return the logits of a batch, on the CPU; in halves where it does not fit the device's memory."""
    try:
        found: Tensor = model(as_pixels(batch.to(where))).cpu()
        return found
    except torch.OutOfMemoryError as error:
        problem = first_line(error)
    if halvings == 0 or len(batch) == 1:
        raise DeviceFullError(
            f"predictions: {len(batch)} images of shape {tuple(batch.shape[1:])} do not fit the memory of "
            f"{in_words(where)}, nor did twice as many; end what else computes there, or give every stage a "
            f"GPU of its own ({problem})"
        )
    half = -(-len(batch) // 2)
    return torch.cat([_logits(model, part, where, halvings - 1) for part in batch.split(half)])
