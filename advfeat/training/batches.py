"""The batches of a window: which images each has, and how they move, drawn on the CPU before they are needed.

So every device sees the same ones, and a GPU gets those of many batches in one transfer that nobody waits
for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from advfeat.hardware import sent
from advfeat.models import as_pixels
from advfeat.spec import Augmentation
from advfeat.training.augmentation import Movements, draw_movements
from advfeat.training.windows import Window

_DRAWN_AT_ONCE = 32
"""Batches: a transfer for each costs as much time as launching several kernels."""


@dataclass(frozen=True)
class Batch:
    """What one worker learns from in one step: rows of a window, and how their images move."""

    window: Window
    rows: Tensor
    """Its own, int64 (n,), where the window lies."""

    movements: Movements | None
    size: int
    """Images of all workers together."""

    @property
    def pixels(self) -> Tensor:
        """The images, moved: float32 (n, C, H, W) in [0, 1], channels last."""
        if self.movements is None:
            images = self.window.images[self.rows]
        else:
            images = self.window.flipped_and_shifted.moved(self.rows, self.movements)
        return as_pixels(images).contiguous(memory_format=torch.channels_last)

    @property
    def labels(self) -> Tensor:
        """Their labels, int64 (n,) or float32 (n, classes)."""
        return self.window.labels[self.rows]

    @property
    def hard_labels(self) -> Tensor:
        """The likeliest class of each image, int64 (n,)."""
        return self.window.hard_labels[self.rows]


def random_batches(
    window: Window,
    batch_size: int,
    augmentation: Augmentation,
    generator: torch.Generator,
    rank: int,
    workers: int,
) -> Iterator[Batch]:
    """Yield a worker's share of each batch; a last one that leaves a worker one image is left out.

    Every worker draws the movements of the whole batch, so that the shares together are the batch.
    """
    where, height, share = window.images.device, window.images.shape[2], slice(rank, None, workers)
    every = torch.randperm(len(window), generator=generator).split(batch_size)
    kept = [rows for rows in every if len(rows) >= 2 * workers]  # batch norm needs two
    for first in range(0, len(kept), _DRAWN_AT_ONCE):
        some = kept[first : first + _DRAWN_AT_ONCE]
        movements: list[Movements | None] = [None] * len(some)
        if augmentation == "flip-crop":
            drawn = [draw_movements(len(rows), height, generator) for rows in some]
            flips, shifts = ([moved[share] for moved in kind] for kind in zip(*drawn, strict=True))
            movements[:] = zip(_sent_together(flips, where), _sent_together(shifts, where), strict=True)
        here = _sent_together([rows[share] for rows in some], where)
        for whole, rows, moved in zip(some, here, movements, strict=True):
            yield Batch(window, rows, moved, len(whole))


def _sent_together(parts: list[Tensor], where: torch.device) -> list[Tensor]:
    """Return tensors that lie on the CPU on a device, where they are sent in one transfer."""
    if where.type == "cpu":
        return parts
    return list(sent(torch.cat(parts), where).split([len(part) for part in parts]))
