"""What is exported: a split's rows in pieces of bounded size, whatever pieces they are stored in."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import pyarrow as pa

from advfeat.export.pixels import Pixels, Precision

_BYTES_PER_PIECE = 64 << 20
"""Of float32 pixels; a file of an export is a piece."""


@dataclass(frozen=True)
class Piece:
    """Consecutive rows: their images (n, C, H, W) at the export's precision, and all other columns."""

    number: int
    first_row: int
    images: Pixels
    columns: pa.Table

    @property
    def records(self) -> Iterator[tuple[str, Pixels, dict[str, object]]]:
        """Each row's name, image and other columns."""
        for offset, (image, record) in enumerate(zip(self.images, self.columns.to_pylist(), strict=True)):
            yield f"{self.first_row + offset:08d}", image, record


@dataclass(frozen=True)
class Split:
    """One split of an export."""

    name: str
    rows: int
    classes: Sequence[str]
    image_shape: tuple[int, ...]
    precision: Precision
    pieces: Iterator[Piece]

    def file_name(self, number: int, extension: str) -> str:
        """Name the file of a piece as Hugging Face does: split, number, and how many there are."""
        count = -(-self.rows // rows_per_piece(self.image_shape))
        return f"{self.name}/{self.name}-{number:05d}-of-{count:05d}.{extension}"


def rows_per_piece(image_shape: Sequence[int]) -> int:
    """Return how many images (C, H, W) make a piece."""
    return max(1, _BYTES_PER_PIECE // (np.dtype(np.float32).itemsize * prod(image_shape)))
