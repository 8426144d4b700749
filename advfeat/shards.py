"""How a data set is split into shards: whole batches, which fill the tiles that go through a network."""

from itertools import pairwise

BATCH_SIZE = 128
SECONDS_PER_SHARD = 30.0
"""A shard is a task: short enough that a lost one costs little, long enough that tasks cost nothing."""

BYTES_PER_SHARD = 256 << 20


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
