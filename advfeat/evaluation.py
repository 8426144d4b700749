"""What a network predicts, how often it is right, and how sure one can be of that."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import stdtrit
from torch import Tensor, nn

from advfeat.training import as_pixels, device

_BATCH_SIZE = 512
_CONFIDENCE = 0.95


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> NDArray[np.int64]:
    """Return the most likely class of each image, shape (N,); images uint8 or float32 in [0, 1]."""
    where = device()
    model = model.to(where).eval()
    parts = [model(as_pixels(batch.to(where))).argmax(1).cpu() for batch in images.split(_BATCH_SIZE)]
    return torch.cat(parts).numpy() if parts else np.empty(0, np.int64)


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927), as fractions."""
    z = float(stdtrit(np.inf, (1 + _CONFIDENCE) / 2))
    centre = (successes + z**2 / 2) / (trials + z**2)
    half = z / (trials + z**2) * (successes * (trials - successes) / trials + z**2 / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(fractions: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of at least two fractions (Student's t), in [0, 1]."""
    mean, count = float(np.mean(fractions)), len(fractions)
    half = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2) * np.std(fractions, ddof=1) / count**0.5)
    return max(0.0, mean - half), min(1.0, mean + half)
