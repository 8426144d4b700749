"""What a network learns from, a window at a time: memory is bounded by two windows, whatever the size.

A training set is stored in parts. A window is some of them, chosen anew in every epoch; batches are drawn
from its rows in random order, and meanwhile the next window is fetched. Where all parts fit into one window,
that is all images in random order, and they stay in memory from the first epoch to the last.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from torch import Tensor

from advfeat.ahead import computed_ahead
from advfeat.digest import canonical_json, derived_seed
from advfeat.files.parts import WINDOW_PARTS
from advfeat.files.tensor_file import raw_bytes
from advfeat.hardware import device
from advfeat.training.augmentation import FlipAndShift

Parts = tuple[int, ...]
"""Numbers of the parts of a window, ascending."""


@dataclass(frozen=True)
class Window:
    """Images (n, C, H, W), uint8 or float32 in [0, 1], and labels, int64 (n,) or float32 (n, classes)."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def hard_labels(self) -> Tensor:
        """The likeliest class of each image, int64 (n,)."""
        return self.labels if self.labels.ndim == 1 else self.labels.argmax(1)

    @cached_property
    def flipped_and_shifted(self) -> FlipAndShift:
        """The images, to be flipped and shifted at random."""
        return FlipAndShift(self.images)

    def moved_to(self, where: torch.device) -> "Window":
        """Return the same on a device."""
        return Window(self.images.to(where), self.labels.to(where))


class TrainingSet:
    """Images in parts of ``sizes`` rows, read a window at a time."""

    def __init__(
        self,
        sizes: Sequence[int],
        image_shape: tuple[int, ...],
        load: Callable[[Parts], Window],
        identity: Callable[[], str],
    ) -> None:
        self.sizes = sizes
        self.image_shape = image_shape
        self.identity = identity
        """Names the bytes of all images and labels."""
        self._load = load
        self._last: tuple[Parts, Window] | None = None

    @classmethod
    def in_memory(cls, images: Tensor, labels: Tensor) -> "TrainingSet":
        """Return the set of images and labels that are read already: one part, and so one window."""
        window = Window(images, labels)
        return cls([len(labels)], tuple(images.shape[1:]), lambda _: window, partial(_identity, window))

    def __len__(self) -> int:
        return sum(self.sizes)

    def in_order(self) -> list[Parts]:
        """Return the windows of a pass in the order of the rows."""
        return _windows(list(range(len(self.sizes))))

    def of_epoch(self, seed: int, epoch: int) -> list[Parts]:
        """Return the windows of an epoch: parts at random, the same ones for the same seed and epoch."""
        generator = torch.Generator().manual_seed(derived_seed(seed, "windows", epoch))
        return _windows(torch.randperm(len(self.sizes), generator=generator).tolist())

    def rows(self, window: Parts) -> int:
        """Count the rows of a window."""
        return sum(self.sizes[part] for part in window)

    def stream(self, windows: Iterable[Parts]) -> Iterator[Window]:
        """Read windows onto this thread's device, each while the one before is used; the last one is kept.

        Raises what reading raises.
        """
        return computed_ahead(partial(self._read, where=device()), windows, 1)

    def _read(self, parts: Parts, where: torch.device) -> Window:
        if self._last is None or self._last[0] != parts:
            self._last = parts, self._load(parts).moved_to(where)
        return self._last[1]


def _identity(window: Window) -> str:
    sha = hashlib.sha256()
    for tensor in (window.images, window.labels):
        sha.update(canonical_json([str(tensor.dtype), list(tensor.shape)]))
        sha.update(raw_bytes(tensor))
    return sha.hexdigest()


def _windows(parts: Sequence[int]) -> list[Parts]:
    return [tuple(sorted(parts[n : n + WINDOW_PARTS])) for n in range(0, len(parts), WINDOW_PARTS)]
