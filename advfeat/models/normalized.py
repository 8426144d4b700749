"""A network that takes pixels: the normalization is its first step."""

import torch
from torch import Tensor, nn


def as_pixels(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 is divided by 255, float32 passes through."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


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

    def normalize(self, images: Tensor) -> Tensor:
        """Return images of mean zero and variance one, over the training images."""
        return (images - self.mean) / self.std

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes)."""
        logits: Tensor = self.network(self.normalize(images))
        return logits
