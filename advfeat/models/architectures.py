"""The table of architectures, and the one way to build any of them."""

from collections.abc import Sequence
from math import prod

from torch import nn

from advfeat.errors import InputError
from advfeat.models import resnet, small, torchvision_nets
from advfeat.models.normalized import Normalized
from advfeat.models.wide_resnet import wide_resnet
from advfeat.spec import SMALLEST_SIDE, NetworkName


def build(name: NetworkName, *, width: int, image_shape: Sequence[int], classes: int) -> Normalized:
    """Build an untrained network for images of ``image_shape`` (channels, height, width).

    Initial weights come from torch's global generator. ``width`` is the number of channels of the
    first layer of ``cnn`` and ``resnet9``, and an eighth of the units of each hidden layer of
    ``mlp``; all others have their own and ignore it. A network that is not ours is built as
    ``advfeat.models.own`` says. Raises ``InputError`` if the images are too small for the network, or it
    cannot be built.
    """
    channels, height, across = image_shape
    if name not in SMALLEST_SIDE:
        from advfeat.models.own import own_network

        return Normalized(own_network(name, width, image_shape, classes), channels)
    if min(height, across) < SMALLEST_SIDE[name]:
        raise InputError(
            "image_shape",
            list(image_shape),
            f"is too small for {name}",
            f"set data.image_size to {SMALLEST_SIDE[name]} or more, or choose another model",
        )
    return Normalized(_network(name, width, channels, prod(image_shape), classes), channels)


def _network(name: str, width: int, channels: int, pixels: int, classes: int) -> nn.Module:
    match name:
        case "mlp":
            return small.mlp(width, pixels, classes)
        case "cnn":
            return small.cnn(width, channels, classes)
        case "resnet9":
            return small.resnet9(width, channels, classes)
        case "resnet18":
            return resnet.resnet18(channels, classes)
        case "resnet50":
            return resnet.resnet50(channels, classes)
        case "wide_resnet28_10":
            return wide_resnet(channels, classes, depth=28, widen=10)
        case "vgg16_bn":
            return torchvision_nets.vgg16_bn(channels, classes)
        case "inception":
            return torchvision_nets.inception(channels, classes)
        case "densenet":
            return torchvision_nets.densenet(channels, classes)
        case _:
            raise InputError("model", name, "is unknown", f"choose from {', '.join(SMALLEST_SIDE)}")
