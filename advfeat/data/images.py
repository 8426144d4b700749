"""Images in memory: the one form that every source is turned into."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledImages:
    """Images uint8 (N, C, H, W) with labels int64 (N,)."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, rows: NDArray[np.int64]) -> "LabelledImages":
        """Return the chosen rows, in the order given."""
        return LabelledImages(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class ImageData:
    """A training and a test split over the same classes."""

    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]
