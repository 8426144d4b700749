"""The wide residual network of S. Zagoruyko and N. Komodakis (2016), without dropout."""

from torch import Tensor, nn


class PreActivation(nn.Module):
    """A residual block that normalizes and activates before it convolves.

    Where the number of channels changes, a 1x1 convolution of the activated input takes the place of the
    shortcut.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.activate = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.convolve = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
        )
        self.project = None if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return the shortcut plus the convolutions of the activated input."""
        activated = self.activate(inputs)
        shortcut = inputs if self.project is None else self.project(activated)
        outputs: Tensor = shortcut + self.convolve(activated)
        return outputs


def wide_resnet(channels: int, classes: int, *, depth: int, widen: int) -> nn.Module:
    """Build WRN-depth-widen: three groups of (depth - 4) / 6 blocks at full, half and quarter size."""
    layers: list[nn.Module] = [nn.Conv2d(channels, 16, 3, padding=1, bias=False)]
    inputs = 16
    for outputs, stride in ((16 * widen, 1), (32 * widen, 2), (64 * widen, 2)):
        layers.append(PreActivation(inputs, outputs, stride))
        layers += [PreActivation(outputs, outputs, 1) for _ in range((depth - 4) // 6 - 1)]
        inputs = outputs
    network = nn.Sequential(
        *layers,
        nn.BatchNorm2d(inputs),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(inputs, classes),
    )
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network
