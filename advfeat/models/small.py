"""Networks of a chosen width that train in minutes without an accelerator."""

from torch import Tensor, nn


class Residual(nn.Module):
    """A block whose input is added to its output."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input plus the block's output."""
        outputs: Tensor = inputs + self.block(inputs)
        return outputs


class Scaled(nn.Module):
    """Multiply the input by a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the input times the factor."""
        return self.factor * inputs


def mlp(width: int, inputs: int, classes: int) -> nn.Module:
    """Build a perceptron with two hidden layers of 8 * ``width`` units."""
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


def cnn(width: int, channels: int, classes: int) -> nn.Module:
    """Build three convolutions with one pooling between them and a linear layer behind."""
    return nn.Sequential(
        _convolution(channels, width),
        _convolution(width, 2 * width),
        nn.MaxPool2d(2),
        _convolution(2 * width, 2 * width),
        nn.AdaptiveMaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * width, classes),
    )


def resnet9(width: int, channels: int, classes: int) -> nn.Module:
    """Build the ResNet-9 of D. Page, "How to train your ResNet" (2019), at a chosen width (64 there).

    As there, an eighth of the last layer's outputs are the logits.
    """

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
        nn.Linear(8 * width, classes, bias=False),
        Scaled(0.125),
    )
