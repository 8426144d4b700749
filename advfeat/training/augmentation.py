"""Random flips and shifts, drawn on the CPU so that every device sees the same ones."""

import torch
import torch.nn.functional as F
from torch import Tensor

from advfeat.hardware import sent

_ALL = slice(None)


class FlipAndShift:
    """Batches of training images, each flipped with probability one half and shifted by up to an eighth.

    The images (N, C, H, W) are padded once with 0 and stay where they are, in their own type; a batch
    is one gather.
    """

    def __init__(self, images: Tensor) -> None:
        self._height, self._width = images.shape[2:]
        self._reach = max(1, self._height // 8)
        self._padded = F.pad(images, (self._reach,) * 4)

    def batch(self, rows: Tensor, generator: torch.Generator, share: slice = _ALL) -> Tensor:
        """Return the images of the given rows, each moved at random; of all of them, or of a share.

        Every share draws the movements of the whole batch, so that the shares together are the batch.
        """
        flips = (torch.rand(len(rows), generator=generator) < 0.5)[share]
        shifts = torch.randint(0, 2 * self._reach + 1, (len(rows), 2), generator=generator)[share]
        where = self._padded.device
        rows, flips, shifts = (sent(drawn, where) for drawn in (rows[share], flips, shifts))
        count = len(rows)
        down = shifts[:, :1] + torch.arange(self._height, device=where)
        across = torch.arange(self._width, device=where).expand(count, self._width)
        across = shifts[:, 1:] + torch.where(flips[:, None], across.flip(1), across)
        channels = torch.arange(self._padded.shape[1], device=where)
        return self._padded[
            rows.view(-1, 1, 1, 1),
            channels.view(1, -1, 1, 1),
            down.view(count, 1, -1, 1),
            across.view(count, 1, 1, -1),
        ]
