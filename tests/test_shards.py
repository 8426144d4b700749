"""How rows are split into shards."""

from itertools import pairwise
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from advfeat import models
from advfeat.cost import attack_seconds, forward_flop
from advfeat.shards import BATCH_SIZE, BYTES_PER_SHARD, SECONDS_PER_SHARD, shard_rows
from advfeat.spec import ModelName, TrainSpec


@given(st.integers(1, 50_000), st.none() | st.integers(1, 1000), st.floats(0, 0.1), st.integers(1, 10**6))
def test_shards_cover_every_row_once_in_whole_batches(
    count: int, shards: int | None, seconds: float, image_bytes: int
) -> None:
    ranges = shard_rows(count, shards, seconds=seconds, image_bytes=image_bytes)
    assert [row for rows in ranges for row in rows] == list(range(count))
    assert all(rows.start % BATCH_SIZE == 0 for rows in ranges)
    sizes = [-(-len(rows) // BATCH_SIZE) for rows in ranges]
    assert max(sizes) - min(sizes) <= 1
    assert all(before.stop == after.start for before, after in pairwise(ranges))
    if shards is None:
        batch = BATCH_SIZE * max(seconds / SECONDS_PER_SHARD, image_bytes / BYTES_PER_SHARD)
        assert len(ranges[0]) * seconds <= 1.5 * SECONDS_PER_SHARD + batch * SECONDS_PER_SHARD
        assert len(ranges[0]) * image_bytes <= BYTES_PER_SHARD + BATCH_SIZE * image_bytes


@pytest.mark.parametrize("name", get_args(ModelName))
def test_cost_of_a_network_is_near_what_is_counted(name: ModelName) -> None:
    shape = (3, 32, 32)
    model = models.build(name, width=16, image_shape=shape, classes=10).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, *shape))
    assert forward_flop(TrainSpec(model=name, width=16), shape) == pytest.approx(
        counter.get_total_flops(), rel=0.1
    )


def test_a_gpu_gets_larger_shards() -> None:
    seconds = {
        on_gpu: attack_seconds(100, TrainSpec(model="resnet18"), (3, 32, 32), on_gpu=on_gpu)
        for on_gpu in (False, True)
    }
    assert 3 < seconds[False] < 10, "ResNet-18, 100 steps: 2.2e11 FLOP, seconds on a core"
    on_core, on_gpu = (
        len(shard_rows(50_000, None, seconds=seconds[kind], image_bytes=12_288)) for kind in (False, True)
    )
    assert on_core == 391
    assert on_gpu == 3
