"""Random flips and shifts, drawn on the CPU so that every device sees the same ones."""

import torch
import torch.nn.functional as F
from torch import Tensor

Movements = tuple[Tensor, Tensor]
"""Whether each image is flipped, bool (n,), and how far it is shifted down and across, int64 (n, 2)."""


class FlipAndShift:
    """Training images, to be flipped with probability one half and shifted by up to an eighth.

    The images (N, C, H, W) are padded once with 0 and stay where they are, in their own type; a batch
    is one gather.
    """

    def __init__(self, images: Tensor) -> None:
        height, width = images.shape[2:]
        where, self._reach = images.device, shift_reach(height)
        self._padded = F.pad(images, (self._reach,) * 4)
        self._channels = torch.arange(images.shape[1], device=where).view(1, -1, 1, 1)
        self._down = torch.arange(height, device=where)
        self._across = torch.arange(width, device=where)
        self._back = self._across.flip(0)

    def moved(self, rows: Tensor, movements: Movements) -> Tensor:
        """Return the images of the given rows (n,), each moved as drawn; all lie where the images do."""
        flips, shifts = movements
        count = len(rows)
        down = shifts[:, :1] + self._down
        across = shifts[:, 1:] + torch.where(flips[:, None], self._back, self._across)
        return self._padded[
            rows.view(-1, 1, 1, 1), self._channels, down.view(count, 1, -1, 1), across.view(count, 1, 1, -1)
        ]


def shift_reach(height: int) -> int:
    """Return by how many pixels images of a height are shifted at most, in each direction."""
    return max(1, height // 8)


def draw_movements(count: int, height: int, generator: torch.Generator) -> Movements:
    """Draw a movement for each of ``count`` images of a height, on the CPU."""
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * shift_reach(height) + 1, (count, 2), generator=generator)
    return flips, shifts
