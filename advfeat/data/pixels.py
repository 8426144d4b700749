"""Labelled arrays of numbers, read a piece at a time and turned into uint8."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages, pieces_of
from advfeat.data.pixel_range import as_bytes


@dataclass(frozen=True)
class Pixels:
    """Images that ``read`` yields in order, (n, C, H, W) in pieces of any size, where white is ``white``."""

    labels: NDArray[np.int64]
    read: Callable[[], Iterator[NDArray[Any]]]
    white: int

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator[LabelledImages]:
        """Read the chosen rows, which are ascending, ``size`` of them at a time."""
        images = self._images(rows, size)
        for piece in pieces_of(rows, size):
            yield LabelledImages(np.stack(list(islice(images, len(piece)))), self.labels[piece])

    def _images(self, rows: NDArray[np.int64], at_once: int) -> Iterator[NDArray[np.uint8]]:
        start = 0
        for part in self.read():
            first, last = np.searchsorted(rows, (start, start + len(part)))
            for piece in pieces_of(rows[first:last] - start, at_once):
                yield from as_bytes(part[piece], self.white)
            start += len(part)
