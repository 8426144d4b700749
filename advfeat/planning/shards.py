"""How a data set is split into shards: whole batches, which fill the tiles that go through a network.

One that is not split is made a piece at a time, in whole batches too.
"""

from itertools import pairwise

from advfeat.files.parts import PART_BYTES

BATCH_SIZE = 128
SECONDS_PER_SHARD = 30.0
"""A shard is a task: short enough that a lost one costs little, long enough that tasks cost nothing."""

BYTES_PER_SHARD = 256 << 20

ROWS_AT_ONCE = 4096
"""That are made, or looked at, at a time by one process, unless they are large."""


ROWS_OF_LARGE_IMAGES_AT_ONCE = 2048
"""That a shard makes at a time where the images are large: no fewer than fill the largest tile."""


def shard_rows(count: int, shards: int | None, *, seconds: float, image_bytes: int) -> list[range]:
    """Split ``count`` rows into consecutive shards of whole batches.

    Where ``shards`` is unset, a shard lasts about half a minute, at ``seconds`` an image, and its images
    fill no more than 256 MiB, at ``image_bytes`` each.
    """
    batches = -(-count // BATCH_SIZE)
    by_size = max(1, round(count * seconds / SECONDS_PER_SHARD), -(-count * image_bytes // BYTES_PER_SHARD))
    shards = min(batches, shards or by_size)
    edges = [BATCH_SIZE * (batches * shard // shards) for shard in range(shards)] + [count]
    return [range(start, stop) for start, stop in pairwise(edges)]


def rows_at_once(image_bytes: int) -> int:
    """Return how many images of so many bytes make a piece: whole batches, no larger than a part of a split.

    One batch at least, so that predictions round alike whatever the size of the pieces.
    """
    rows = min(ROWS_AT_ONCE, PART_BYTES // image_bytes)
    return max(BATCH_SIZE, rows - rows % BATCH_SIZE)


def rows_made_at_once(image_bytes: int) -> int:
    """Return how many images of so many bytes a shard makes before their rows are written.

    So many that they fill every tile that goes through a network, whatever its size.
    """
    return ROWS_AT_ONCE if ROWS_AT_ONCE * image_bytes <= PART_BYTES else ROWS_OF_LARGE_IMAGES_AT_ONCE
