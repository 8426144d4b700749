"""Splits in parts: the cut depends on the rows alone, memory is bounded, and training sees every image."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from advfeat import data
from advfeat.ahead import computed_ahead
from advfeat.datasets.stored_rows import stored_parts, stored_tables
from advfeat.errors import DamagedArtifactError
from advfeat.evaluation import predict
from advfeat.files import parts
from advfeat.files.parts import PARTS_AHEAD
from advfeat.files.tables import bytes_column, image_array, int_array, with_image_shape, write_split
from advfeat.planning import load_experiment
from advfeat.spec import TrainSpec
from advfeat.stages.images import StoredImages
from advfeat.storage import Stage, Store
from advfeat.training import Parts, TrainingSet, Window, fit, mean_and_std, windows
from tests.test_training import Memory

PARAMETERS = {"identity": {"bundled": "digits"}, "train_size": None, "test_size": None}
STAGE = Stage(kind="images", title="images", parameters=PARAMETERS)
ROW_BYTES = 12 + 8
ROWS_PER_PART = 7


@pytest.fixture(autouse=True, scope="module")
def small_parts() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PART_BYTES", ROWS_PER_PART * ROW_BYTES + ROW_BYTES - 1)
        yield


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 3, 2, 2), np.uint8)
    return pixels, np.arange(count)


def table(pixels: np.ndarray, labels: np.ndarray) -> pa.Table:
    made = pa.table({"image": bytes_column(pixels), "label": pa.array(labels)})
    return with_image_shape(made, pixels.shape[1:])


def cut(whole: pa.Table, edges: Sequence[int]) -> list[pa.Table]:
    places = [0, *sorted(edges), whole.num_rows]
    return [whole.slice(start, stop - start) for start, stop in pairwise(places)]


def write(store: Store, count: int, watch: Callable[[Path], object] = Path.exists) -> str:
    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, Any]:
        def seen(path: Path) -> None:
            finished(path)
            watch(folder)

        write_split(cut(table(*images(count)), range(0, count, 5)), folder, "train", seen)
        return {"train_size": count, "test_size": 0, "image_shape": [3, 2, 2], "classes": ["any"]}

    return store.write_streamed(STAGE, build).digest


@settings(deadline=None, max_examples=50)
@given(count=st.integers(0, 40), edges=st.lists(st.integers(0, 40), max_size=6))
def test_parts_depend_on_the_rows_alone(
    tmp_path_factory: pytest.TempPathFactory, count: int, edges: list[int]
) -> None:
    whole = table(*images(count))
    written = []
    for pieces in ([whole], cut(whole, [min(edge, count) for edge in edges])):
        folder = tmp_path_factory.mktemp("parts")
        finished: list[Path] = []
        write_split(pieces, folder, "train", finished.append)
        written.append({path.name: path.read_bytes() for path in finished})
    assert written[0] == written[1]
    assert len(written[0]) == max(1, -(-count // ROWS_PER_PART))


@settings(deadline=None, max_examples=50)
@given(
    count=st.integers(1, 40),
    start=st.integers(0, 40),
    length=st.integers(0, 40),
    columns=st.sampled_from([None, ["label"]]),
)
def test_any_rows_are_read_as_written(
    tmp_path_factory: pytest.TempPathFactory, count: int, start: int, length: int, columns: list[str] | None
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    digest = write(store, count)
    rows = range(start, min(count, start + length))
    read = pa.concat_tables(stored_tables(store, digest, "train", columns, rows))
    pixels, labels = images(count)
    assert int_array(read, "label").tolist() == labels[rows.start : rows.stop].tolist()
    assert read.column_names == (columns or ["image", "label"])
    if columns is None:
        assert np.array_equal(image_array(read, np.uint8), pixels[rows.start : rows.stop])


def test_a_split_comes_back_in_order_and_whole(store: Store) -> None:
    digest = write(store, 30)
    assert [file.name for file in store.manifest(digest).files] == [
        f"train-{first:09}.parquet" for first in (0, 7, 14, 21, 28)
    ]
    assert store.verify(digest) is None
    pixels, labels = images(30)
    read = pa.concat_tables(stored_tables(store, digest))
    assert np.array_equal(image_array(read, np.uint8), pixels)
    stored, rows = StoredImages(store, digest, "train"), np.array([29, 3, 3, 15])
    assert np.array_equal(stored.pixels(rows), pixels[rows])
    assert np.array_equal(stored.labels, labels)
    assert len(stored) == 30


def test_the_folder_of_a_writer_holds_a_few_parts_at_most(store: Store) -> None:
    held: list[int] = []
    write(store, 200, lambda folder: held.append(len(list(folder.iterdir()))))
    assert len(held) == 29
    assert max(held) <= PARTS_AHEAD + 1


def test_a_failed_upload_publishes_nothing(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = local_store._upload

    def fails_once(digest: str, path: Path) -> Any:
        if "000000014" in path.name:
            raise OSError("no space left")
        return upload(digest, path)

    monkeypatch.setattr(local_store, "_upload", fails_once)
    with pytest.raises(OSError, match="no space left"):
        write(local_store, 200)
    assert local_store.find(STAGE.digest) is None


def test_damage_in_any_part_is_found_on_reading(local_store: Store) -> None:
    digest = write(local_store, 30)
    part = stored_parts(local_store, digest)[3]
    path = Path(local_store.artifact_uri(digest)) / part.file.path
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedArtifactError, match="train-000000021"):
        list(stored_tables(local_store, digest, columns=["label"]))
    assert len(list(stored_tables(local_store, digest, rows=range(20)))) == 3


def test_what_is_ahead_is_computed_meanwhile_and_no_more_of_it() -> None:
    begun: list[int] = []
    waiting = threading.Event()

    def compute(number: int) -> int:
        begun.append(number)
        if number == 2:
            waiting.set()
        return number

    results = computed_ahead(compute, range(100), 2)
    assert next(results) == 0
    assert waiting.wait(10), "two more are computed while the first is used"
    time.sleep(0.05)
    assert max(begun) == 2
    assert list(results) == list(range(1, 100))


@pytest.fixture(scope="module")
def digits() -> tuple[Tensor, Tensor]:
    train = data.load(load_experiment("digits").data).train
    return torch.from_numpy(train.images), torch.from_numpy(train.labels)


def in_parts(images: Tensor, labels: Tensor, size: int, read: list[Parts] | None = None) -> TrainingSet:
    of_images, of_labels = images.split(size), labels.split(size)

    def load(numbers: Parts) -> Window:
        if read is not None:
            read.append(numbers)
        return Window(
            torch.cat([of_images[number] for number in numbers]),
            torch.cat([of_labels[number] for number in numbers]),
        )

    return TrainingSet([len(part) for part in of_labels], tuple(images.shape[1:]), load, lambda: "digits")


def same(first: torch.nn.Module, second: torch.nn.Module) -> bool:
    other = second.state_dict()
    return all(torch.equal(weights, other[name]) for name, weights in first.state_dict().items())


def test_parts_that_fit_into_a_window_train_as_images_in_memory(digits: tuple[Tensor, Tensor]) -> None:
    spec = TrainSpec(width=4, epochs=2, augmentation="flip-crop")
    read: list[Parts] = []
    whole = fit(TrainingSet.in_memory(digits[0][:300], digits[1][:300]), spec, classes=10, seed=0)
    parts = in_parts(digits[0][:300], digits[1][:300], 70, read)
    assert same(fit(parts, spec, classes=10, seed=0), whole)
    assert read == [(0, 1, 2, 3, 4)], "and are read once"


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "WINDOW_PARTS", 2)


@pytest.mark.usefixtures("small_windows")
def test_an_epoch_sees_every_image_once_in_windows_of_its_own(digits: tuple[Tensor, Tensor]) -> None:
    parts = in_parts(*digits, 200)
    epochs = [parts.of_epoch(0, epoch) for epoch in range(5)]
    for epoch in epochs:
        assert sorted(part for window in epoch for part in window) == list(range(7))
        assert sum(parts.rows(window) for window in epoch) == len(digits[1])
    assert len({tuple(epoch) for epoch in epochs}) > 1
    assert parts.of_epoch(0, 3) == epochs[3]
    assert parts.of_epoch(1, 0) != epochs[0]


@pytest.mark.usefixtures("small_windows")
def test_training_from_windows_learns_as_well_and_goes_on_exactly(digits: tuple[Tensor, Tensor]) -> None:
    spec = TrainSpec(width=16, epochs=4, learning_rate=0.05)
    accuracy = {}
    for name, size in (("windows", 150), ("memory", len(digits[1]))):
        losses: list[float] = []
        model = fit(in_parts(*digits, size), spec, classes=10, seed=0, losses=losses)
        accuracy[name] = (predict(model, digits[0]) == digits[1].numpy()).mean()
        if name == "windows":
            whole, whole_losses = model, losses
    assert min(accuracy.values()) > 0.9, accuracy

    memory = Memory(dies_after=2)
    with pytest.raises(KeyboardInterrupt):
        fit(in_parts(*digits, 150), spec, classes=10, seed=0, checkpoint=memory)
    progress: list[int] = []
    resumed = fit(
        in_parts(*digits, 150),
        spec,
        classes=10,
        seed=0,
        checkpoint=memory,
        progress=lambda done, total: progress.append(done * (done <= total)),
        losses=losses,
    )
    assert same(resumed, whole)
    assert losses == whole_losses
    assert progress[0] > 2 * len(digits[1])
    assert progress[-1] > 0.99 * 4 * len(digits[1])


@settings(deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 2**31))
def test_statistics_of_pieces_are_those_of_all(sizes: list[int], seed: int) -> None:
    pixels = torch.rand((sum(sizes), 3, 2, 2), generator=torch.Generator().manual_seed(seed))
    std, mean = torch.std_mean(pixels, dim=(0, 2, 3))
    found = mean_and_std(pixels.split(sizes))
    assert torch.allclose(found[0], mean, atol=1e-6)
    assert torch.allclose(found[1], std, atol=1e-6)
    whole = mean_and_std([pixels])
    assert torch.equal(whole[0], mean)
    assert torch.equal(whole[1], std)
