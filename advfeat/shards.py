"""How a data set is split into shards: whole batches, so that no example depends on the split."""

from itertools import pairwise

BATCH_SIZE = 128
IMAGES_PER_SHARD = 1024


def shard_rows(count: int, shards: int | None) -> list[range]:
    """Split ``count`` rows into consecutive shards of whole batches, by size if unset."""
    batches = -(-count // BATCH_SIZE)
    shards = min(batches, shards or -(-count // IMAGES_PER_SHARD))
    edges = [BATCH_SIZE * (batches * shard // shards) for shard in range(shards)] + [count]
    return [range(start, stop) for start, stop in pairwise(edges)]
