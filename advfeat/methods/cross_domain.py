"""Learning one domain from images of another: what a source makes of them (Wallace 2019).

A source network trained on domain A labels the images of domain B, which show nothing of A; a target
network learns these images under these labels alone and is tested on A.

``Normalized`` networks know the mean and standard deviation of their own training images. Where B differs
from A in these, the source sees B off its range, and so does the target A: it measures A's images by
B's statistics. Mapping B's images to A's statistics, once, before the source labels them and the target
learns them, removes both mismatches, and A's test images stay as they are. It also changes the labels,
and whether a target gains by it is to be measured: with three seeds of a small network on MNIST and
Fashion-MNIST it did not, while balanced classes helped (docs/results/cross_domain.md).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from advfeat.errors import InputError
from advfeat.models import as_pixels
from advfeat.training import mean_and_std

_CONSTANT = 1e-3
"""A standard deviation below this, a quarter of a grey level, is that of a constant channel."""


@dataclass(frozen=True)
class ChannelMap:
    """Gives images of domain B the means and standard deviations (C,) of domain A, channel by channel."""

    mean_b: Tensor
    std_b: Tensor
    mean_a: Tensor
    std_a: Tensor

    def __call__(self, images: Tensor) -> Tensor:
        """Return images (N, C, H, W), uint8 or float32 in [0, 1], as float32; they are not clipped."""
        scale = self.std_a / self.std_b.clamp_min(_CONSTANT)
        mean_b, scale, mean_a = (values.view(-1, 1, 1) for values in (self.mean_b, scale, self.mean_a))
        return (as_pixels(images) - mean_b) * scale + mean_a


def with_statistics_of(images_b: Tensor, images_a: Tensor) -> Tensor:
    """Return domain B's images with the mean and standard deviation of domain A's, channel by channel.

    Both are uint8 or float32 in [0, 1], (N, C, H, W), of the same channels; all other sizes may differ.
    The result is float32 of B's shape in pixel units. Its values may leave [0, 1] and are not clipped,
    which would change the statistics again: networks take them as they are, attacks do not. The
    statistics are those of all images given, so map a domain whole, before it is split. A channel of
    B that is constant becomes A's mean. Raises ``InputError`` if the channels differ in number.
    (Wallace 2019, distill.pub/2019/advex-bugs-discussion/response-6, "normalized".)
    """
    channels = images_b.shape[1], images_a.shape[1]
    if channels[0] != channels[1]:
        raise InputError(
            "images_b",
            list(images_b.shape),
            f"has {channels[0]} channels and domain A {channels[1]}",
            "choose two domains that are both grey or both in colour",
        )
    return ChannelMap(*mean_and_std([images_b]), *mean_and_std([images_a]))(images_b)


def class_balanced(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows, int64 and ascending, among which every class that occurs is equally frequent.

    Of n labels in k classes each class gets n // k rows, so that the data set keeps its size, up to
    k - 1 rows. A frequent class is drawn without replacement; a rare one repeats all its rows equally
    often, and what is then missing is drawn without replacement. No row comes twice before all of its
    class have come once. Cutting all classes to the rarest instead would leave little: a source's
    predictions on another domain are far from balanced.
    """
    classes, counts = np.unique(labels, return_counts=True)
    if not len(classes):
        return np.empty(0, np.int64)
    share = len(labels) // len(classes)
    rows: list[NDArray[np.int64]] = []
    for label, count in zip(classes, counts, strict=True):
        members = np.flatnonzero(labels == label)
        rows.append(np.tile(members, share // count))
        rows.append(rng.choice(members, share % count, replace=False))
    return np.sort(np.concatenate(rows))
