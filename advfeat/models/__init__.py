"""Names -> networks. Every network takes images float32 (N, C, H, W) in [0, 1].

Normalization lives inside, so that an attack works on pixels. VGG, Inception modules and
DenseNet are torchvision's. No network draws random numbers in its forward pass, and ``torch.fx`` traces all.
"""

from advfeat.models.architectures import build
from advfeat.models.files import from_bytes, to_bytes
from advfeat.models.normalized import Normalized, as_pixels
from advfeat.models.predictions import logits, predict, probabilities

__all__ = ["Normalized", "as_pixels", "build", "from_bytes", "logits", "predict", "probabilities", "to_bytes"]
