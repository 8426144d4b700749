"""How a stored split is cut into parts: Parquet files of a set number of rows, whatever made them.

A part is read, checked and decoded whole, so that memory is bounded by a few of them and not by the
split. The cut depends on the size of a row alone, never on shards or workers. The name of a part holds
its first row, so that any rows are found by names: ``train-000005120.parquet`` begins at row 5,120.
"""

import re
from math import prod

ROWS_PER_GROUP = 1024
"""Of a Parquet row group, unless its rows are large."""

GROUP_BYTES = 16 << 20
"""Of a row group's rows in memory, at most: writing one takes some times that."""

PART_BYTES = 64 << 20
"""Of a part's rows in memory: large enough for a transfer to be fast, small enough to hold several."""

PARTS_AHEAD = 2
"""Of a split that is read, or written, while the one before is used, or made."""

WINDOW_PARTS = 16
"""That training draws its batches from at a time: 1 GiB. Up to that size a training set stays in memory."""

_NAME = re.compile(r"([a-z]+)-(\d{9})\.parquet")


def rows_per_part(row_bytes: int) -> int:
    """Return how many rows of so many bytes make a part: whole row groups, if one is not too much already."""
    rows = max(1, PART_BYTES // row_bytes)
    return rows - rows % rows_per_group(row_bytes)


def rows_per_group(row_bytes: int) -> int:
    """Return how many rows of so many bytes make a row group: ``ROWS_PER_GROUP``, fewer if they are large."""
    return max(1, min(ROWS_PER_GROUP, GROUP_BYTES // row_bytes, PART_BYTES // row_bytes))


def float_images_per_group(image_shape: tuple[int, ...]) -> int:
    """Return how many images (C, H, W) as float32 make a row group."""
    return rows_per_group(max(1, 4 * prod(image_shape)))


def part_name(split: str, first_row: int) -> str:
    """Name the part of a split that begins at a row."""
    return f"{split}-{first_row:09}.parquet"


def first_row(name: str, split: str) -> int | None:
    """Return the row at which a part begins; None if the file is no part of that split."""
    found = _NAME.fullmatch(name)
    return int(found[2]) if found is not None and found[1] == split else None
