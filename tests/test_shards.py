"""How rows are split into shards."""

from itertools import pairwise
from math import prod
from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from advfeat import models
from advfeat.files.parts import PART_BYTES
from advfeat.planning.cost import attack_seconds, forward_flop
from advfeat.planning.layout import RealImages
from advfeat.planning.shards import BATCH_SIZE, BYTES_PER_SHARD, SECONDS_PER_SHARD, rows_at_once, shard_rows
from advfeat.spec import ModelName, TrainSpec
from advfeat.storage import Stage


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


@given(st.integers(1, 10**9))
def test_a_piece_is_whole_batches_and_no_larger_than_a_part(image_bytes: int) -> None:
    rows = rows_at_once(image_bytes)
    assert rows % BATCH_SIZE == 0
    assert 0 < rows <= 4096
    assert rows == BATCH_SIZE or rows * image_bytes <= PART_BYTES
    assert rows == 4096 or (rows + BATCH_SIZE) * image_bytes > PART_BYTES


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32)])
def test_pieces_of_small_images_are_as_they_were(shape: tuple[int, ...]) -> None:
    assert rows_at_once(4 * prod(shape)) == 4096


def test_a_stage_of_larger_images_asks_for_the_memory_of_a_piece() -> None:
    stage = Stage(kind="images", title="images", parameters={})
    for side, most in ((32, 2 << 30), (224, 2 << 30), (1024, 5 << 30)):
        images = RealImages(stage, train_size=1_281_167, test_size=50_000, shape=(3, side, side))
        piece = 4 * images.bytes_each * rows_at_once(4 * images.bytes_each)
        assert 2 * piece < images.making_bytes(rows_at_once(4 * images.bytes_each)) < most


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
