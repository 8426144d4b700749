"""Images and labels as a caller has them, read into tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from advfeat.errors import InputError, first_line

Given = Tensor | NDArray[Any] | Sequence[Any]
"""Images or labels as a caller has them."""


def as_tensors(images: Given, labels: Given) -> tuple[Tensor, Tensor]:
    """Return images and labels as tensors, NumPy arrays and lists too; of those, pixels become float32.

    Raises ``InputError`` for anything else. What inference mode made is copied: it could have no gradient.
    """
    pixels, classes = _read("images", images), _read("labels", labels)
    if not isinstance(images, Tensor) and pixels.is_floating_point():
        pixels = pixels.float()
    return pixels, classes if classes.numel() else classes.long()


def _read(name: str, values: Given) -> Tensor:
    try:
        tensor = _as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        problem = f"is not a tensor ({first_line(error)})"
        raise InputError(name, type(values).__name__, problem, "give a tensor or a NumPy array") from error
    if tensor.is_meta or tensor.layout != torch.strided:
        kind = "meta" if tensor.is_meta else str(tensor.layout).removeprefix("torch.")
        raise InputError(name, f"{kind} tensor", "does not hold each of its values", "give a dense tensor")
    return tensor


def _as_tensor(values: Given) -> Tensor:
    if isinstance(values, Tensor):
        return values.clone() if values.is_inference() else values
    if isinstance(values, list | tuple) and values and all(isinstance(one, Tensor) for one in values):
        return torch.stack(list(values))
    # A copy: torch takes neither negative strides nor foreign byte orders, and warns of read-only memory.
    array = np.array(values)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=False))
