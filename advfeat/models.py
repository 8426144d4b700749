"""Names -> networks. Every network takes images float32 (N, C, H, W) in [0, 1].

Normalization lives inside, so that an attack works on pixels. torchvision's definitions are used
where they exist.
"""

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from advfeat.errors import DamagedArtifactError
from advfeat.spec import ModelName


class Normalized(nn.Module):
    """A network behind the per-channel normalization of its training images."""

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(1, channels, 1, 1))
        self.register_buffer("std", torch.ones(1, channels, 1, 1))

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Take the mean and standard deviation (C,) of the training pixels, in [0, 1] units."""
        self.mean.copy_(mean.view_as(self.mean))
        self.std.copy_(std.clamp_min(1e-3).view_as(self.std))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits


class Residual(nn.Module):
    """A block whose input is added to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input plus the block's output."""
        outputs: Tensor = inputs + self.block(inputs)
        return outputs


def build(name: ModelName, *, width: int, image_shape: Sequence[int], classes: int) -> Normalized:
    """Build an untrained network for images of ``image_shape`` (channels, height, width).

    Initial weights come from torch's global generator. ``width`` is the number of channels of the
    first layer; ``resnet18`` has its own and ignores it.
    """
    channels = image_shape[0]
    if name == "mlp":
        network: nn.Module = _mlp(width, prod(image_shape), classes)
    elif name == "cnn":
        network = _cnn(width, channels, classes)
    elif name == "resnet9":
        network = _resnet9(width, channels, classes)
    else:
        network = _resnet18(channels, classes)
    return Normalized(network, channels)


def _mlp(width: int, inputs: int, classes: int) -> nn.Module:
    hidden = 8 * width
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, hidden),
        nn.ReLU(),
        nn.Linear(hidden, hidden),
        nn.ReLU(),
        nn.Linear(hidden, classes),
    )


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
    )


def _cnn(width: int, channels: int, classes: int) -> nn.Module:
    return nn.Sequential(
        _convolution(channels, width),
        _convolution(width, 2 * width),
        nn.MaxPool2d(2),
        _convolution(2 * width, 2 * width),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def _resnet9(width: int, channels: int, classes: int) -> nn.Module:
    """Build the ResNet-9 of D. Page, "How to train your ResNet" (2019), at a chosen width (64 there)."""

    def stage(inputs: int, outputs: int) -> list[nn.Module]:
        return [_convolution(inputs, outputs), nn.MaxPool2d(2)]

    def residual(size: int) -> Residual:
        return Residual(nn.Sequential(_convolution(size, size), _convolution(size, size)))

    return nn.Sequential(
        _convolution(channels, width),
        *stage(width, 2 * width),
        residual(2 * width),
        *stage(2 * width, 4 * width),
        *stage(4 * width, 8 * width),
        residual(8 * width),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def _resnet18(channels: int, classes: int) -> nn.Module:
    """Build torchvision's ResNet-18 with the usual stem for small images: 3x3, stride 1, no pooling."""
    from torchvision.models import resnet18

    network: nn.Module = resnet18(num_classes=classes)
    network.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    return network


def to_bytes(model: Normalized, architecture: dict[str, Any]) -> bytes:
    """Serialize weights as safetensors, with the arguments of ``build`` in the header."""
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    return safetensors.torch.save(weights, {"architecture": json.dumps(architecture, sort_keys=True)})


def from_bytes(content: bytes) -> Normalized:
    """Rebuild a network in evaluation mode; raises ``DamagedArtifactError``."""
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        model = build(**json.loads(header["__metadata__"]["architecture"]))
        model.load_state_dict(safetensors.torch.load(content))
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DamagedArtifactError(f"the model file cannot be used ({error})") from error
    return model.eval()
