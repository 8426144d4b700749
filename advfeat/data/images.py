"""The one form that every source is turned into: images in memory, or still in files, with their labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

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
        """Return a copy of the chosen rows, in the order given."""
        return LabelledImages(np.ascontiguousarray(self.images[rows]), self.labels[rows])

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator["LabelledImages"]:
        """Yield the chosen rows, ``size`` of them at a time."""
        yield from (self.rows(piece) for piece in pieces_of(rows, size))


@dataclass(frozen=True)
class ImageData:
    """A training and a test split over the same classes, in memory."""

    train: LabelledImages
    test: LabelledImages
    classes: tuple[str, ...]


class Readable(Protocol):
    """Labelled images, in memory or not read yet."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The label of every image."""

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator[LabelledImages]:
        """Read the chosen rows, given ascending, ``size`` of them at a time, and no others.

        Raises ``InputError`` for an image that cannot be used.
        """


@dataclass(frozen=True)
class Split:
    """The rows, ascending, of labelled images that make up a split; they are read when they are asked for."""

    of: Readable
    rows: NDArray[np.int64]

    @classmethod
    def whole(cls, of: Readable) -> "Split":
        """Return the split that has all rows."""
        return cls(of, np.arange(len(of.labels)))

    def __len__(self) -> int:
        return len(self.rows)

    def pieces(self, size: int) -> Iterator[LabelledImages]:
        """Read the images, ``size`` of them at a time; raises ``InputError``."""
        return self.of.pieces(self.rows, size)

    def in_memory(self, size: int = 1024) -> LabelledImages:
        """Read all images at once; raises ``InputError``."""
        read = list(self.pieces(size))
        return LabelledImages(
            np.concatenate([piece.images for piece in read]), np.concatenate([piece.labels for piece in read])
        )


@dataclass(frozen=True)
class Splits:
    """A training and a test split over the same classes, not read yet."""

    train: Split
    test: Split
    classes: tuple[str, ...]


def pieces_of(rows: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """Cut rows into pieces of ``size``, the last one perhaps smaller."""
    return (rows[start : start + size] for start in range(0, len(rows), size))
