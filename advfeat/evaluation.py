"""What a network predicts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.hardware import device, true_fp32
from advfeat.training import as_pixels

_BATCH_SIZE = 512


@torch.inference_mode()
def predict(model: nn.Module, images: Tensor) -> NDArray[np.int64]:
    """Return the most likely class of each image, shape (N,); images uint8 or float32 in [0, 1]."""
    where = device()
    model = model.to(where).eval()
    with true_fp32():
        parts = [model(as_pixels(batch.to(where))).argmax(1).cpu() for batch in images.split(_BATCH_SIZE)]
    return torch.cat(parts).numpy() if parts else np.empty(0, np.int64)
