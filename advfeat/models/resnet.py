"""The residual networks of K. He et al. (2016) for small images: a 3x3 stem, stride 1, no pooling after it.

Names, layers and initial weights are those that torchvision's ``resnet18`` and ``resnet50`` have with such a
stem, bit for bit, without its import, which takes seconds.
"""

import torch
from torch import Tensor, nn

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
"""Channels, before a block's expansion, and stride of the first block."""


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        shortcut = _shortcut(inputs, channels, stride)
        self.conv1 = _convolution(inputs, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = _convolution(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = shortcut

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the shortcut plus the convolutions."""
        outputs: Tensor = self.relu(self.bn1(self.conv1(inputs)))
        outputs = self.bn2(self.conv2(outputs))
        outputs += inputs if self.downsample is None else self.downsample(inputs)
        activated: Tensor = self.relu(outputs)
        return activated


class Bottleneck(nn.Module):
    """A 3x3 convolution, which has the stride, between two 1x1 ones, beside a shortcut."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        shortcut = _shortcut(inputs, channels * self.expansion, stride)
        self.conv1 = _convolution(inputs, channels, 1)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _convolution(channels, channels, 3, stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = _convolution(channels, channels * self.expansion, 1)
        self.bn3 = nn.BatchNorm2d(channels * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the shortcut plus the convolutions."""
        outputs: Tensor = self.relu(self.bn1(self.conv1(inputs)))
        outputs = self.relu(self.bn2(self.conv2(outputs)))
        outputs = self.bn3(self.conv3(outputs))
        outputs += inputs if self.downsample is None else self.downsample(inputs)
        activated: Tensor = self.relu(outputs)
        return activated


class ResNet(nn.Module):
    """Four stages of residual blocks between a stem and a linear layer."""

    def __init__(
        self, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, ...], channels: int, classes: int
    ) -> None:
        super().__init__()
        # The stem of large images takes its random numbers before it makes room for that of small ones.
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        inputs = 64
        for number, ((width, stride), count) in enumerate(zip(_STAGES, blocks, strict=True), 1):
            layers = []
            for place in range(count):
                layers.append(block(inputs, width, stride if place == 0 else 1))
                inputs = width * block.expansion
            self.add_module(f"layer{number}", nn.Sequential(*layers))
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(inputs, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.conv1 = _convolution(channels, 64, 3)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, classes) of normalized images (N, C, H, W)."""
        features = self.relu(self.bn1(self.conv1(images)))
        for number in range(1, 1 + len(_STAGES)):
            features = self.get_submodule(f"layer{number}")(features)
        logits: Tensor = self.fc(torch.flatten(self.avgpool(features), 1))
        return logits


def resnet18(channels: int, classes: int) -> nn.Module:
    """Build ResNet-18 with the usual stem for small images."""
    return ResNet(BasicBlock, (2, 2, 2, 2), channels, classes)


def resnet50(channels: int, classes: int) -> nn.Module:
    """Build ResNet-50 with the usual stem for small images; strides are those of its version 1.5."""
    return ResNet(Bottleneck, (3, 4, 6, 3), channels, classes)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module | None:
    """Return what makes a block's inputs like its outputs, if they are not."""
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(_convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs))


def _convolution(inputs: int, outputs: int, side: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, side, stride, padding=side // 2, bias=False)
