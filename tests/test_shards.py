"""Shards: every row in one of them, each from a batch's start."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from advfeat.shards import BATCH_SIZE, MOST_SHARDS, shard_rows


@given(count=st.integers(1, 100_000), shards=st.none() | st.integers(1, 2000))
def test_shards_cover_every_row_once_in_whole_batches(count: int, shards: int | None) -> None:
    parts = shard_rows(count, shards)
    assert parts[0].start == 0
    assert parts[-1].stop == count
    assert all(one.stop == next_one.start for one, next_one in pairwise(parts))
    assert all(len(part) > 0 and part.start % BATCH_SIZE == 0 for part in parts)
    assert len(parts) <= (shards or MOST_SHARDS)
