"""How a data set is split into shards: whole batches, which fill the tiles that go through a network."""

from itertools import pairwise

BATCH_SIZE = 128
IMAGES_PER_SHARD = 1024
MOST_SHARDS = 16
"""Unless more are asked for: a shard is a task, and tasks cost about a second each."""


def shard_rows(count: int, shards: int | None) -> list[range]:
    """Split ``count`` rows into consecutive shards of whole batches, by size if ``shards`` is unset."""
    batches = -(-count // BATCH_SIZE)
    by_size = min(MOST_SHARDS, -(-count // IMAGES_PER_SHARD))
    shards = min(batches, shards or by_size)
    edges = [BATCH_SIZE * (batches * shard // shards) for shard in range(shards)] + [count]
    return [range(start, stop) for start, stop in pairwise(edges)]
