"""Data sets: what each recipe promises, and that shards do not show in the result."""

import io
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from advfeat.datasets import rows as dataset
from advfeat.datasets.rows import DatasetRequest, DatasetSummary, dataset_tables
from advfeat.datasets.stored_rows import stored_tables
from advfeat.evaluation import predict
from advfeat.files import parts
from advfeat.files.tables import image_array
from advfeat.models import Normalized
from advfeat.planning import Experiment, Plan, build_plan, load_experiment
from advfeat.planning.shards import BATCH_SIZE
from advfeat.recipes import RECIPES, cross_domain
from advfeat.stages.dataset import make_shard
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.inline import compute
from advfeat.stages.model import read_model
from advfeat.storage import Store
from tests.inline import compute_all


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Plan]:
    store = Store(str(tmp_path_factory.mktemp("store")))
    plan = build_plan(
        load_experiment("digits", ["seeds=[0]", "source.epochs=6", "target.epochs=1", "attack.steps=10"])
    )
    compute_all(plan, store)
    return store, plan


def frame(computed: tuple[Store, Plan], recipe: str) -> pd.DataFrame:
    """Read a data set as a user does, with pandas alone."""
    store, plan = computed
    (stage,) = [stage for stage in plan.stages if stage.title == f"data set {recipe}, seed 0"]
    (file,) = store.manifest(stage.digest).files
    return pd.read_parquet(f"{store.artifact_uri(stage.digest)}/{file.path}")


def originals(computed: tuple[Store, Plan]) -> tuple[np.ndarray, np.ndarray]:
    store, plan = computed
    split = read_split(store, plan.stages[0].digest, "train")
    return split.images.reshape(len(split), -1) / np.float32(255), split.labels


@pytest.mark.slow
def test_columns(computed: tuple[Store, Plan]) -> None:
    assert list(frame(computed, "d_rand").columns) == [
        "index",
        "image",
        "label",
        "original_label",
        "source_prediction_before",
        "source_prediction_after",
        "perturbation_norm",
    ]


@pytest.mark.parametrize("recipe", ["clean", "mislabeled", "shuffled"])
def test_unperturbed_recipes_keep_every_pixel(computed: tuple[Store, Plan], recipe: str) -> None:
    rows, (images, labels) = frame(computed, recipe), originals(computed)
    assert np.array_equal(np.stack(rows["image"].to_list()), images[rows["index"]])
    assert np.array_equal(rows["original_label"], labels[rows["index"]])
    assert (rows["perturbation_norm"] == 0).all()


def test_clean_has_all_images_under_their_own_labels(computed: tuple[Store, Plan]) -> None:
    rows = frame(computed, "clean")
    assert len(rows) == 1258
    assert (rows["label"] == rows["original_label"]).all()


def test_shuffled_is_a_permutation_of_the_labels(computed: tuple[Store, Plan]) -> None:
    rows = frame(computed, "shuffled")
    assert sorted(rows["label"]) == sorted(rows["original_label"])
    assert (rows["label"] == rows["original_label"]).mean() < 0.2


def test_mislabeled_holds_the_weak_sources_errors_and_no_correct_label(computed: tuple[Store, Plan]) -> None:
    store, plan = computed
    rows, (_, labels) = frame(computed, "mislabeled"), originals(computed)
    (weak,) = [stage for stage in plan.stages if stage.title == "weak source model, seed 0"]
    images = torch.from_numpy(read_split(store, plan.stages[0].digest, "train").images)
    predictions = predict(read_model(store, weak.digest), images)
    assert (rows["label"] != rows["original_label"]).all()
    assert np.array_equal(rows["index"], np.flatnonzero(predictions != labels))
    assert np.array_equal(rows["label"], predictions[rows["index"]])


@pytest.mark.parametrize("recipe", ["d_rand", "d_det"])
def test_adversarial_recipes_perturb_towards_their_labels_within_eps(
    computed: tuple[Store, Plan], recipe: str
) -> None:
    rows, (images, _) = frame(computed, recipe), originals(computed)
    adversarial = np.stack(rows["image"].to_list())
    assert adversarial.dtype == np.float32
    lengths = np.linalg.norm(adversarial.astype(float) - images.astype(float), axis=1)
    assert lengths.max() <= 1.5
    assert np.allclose(lengths, rows["perturbation_norm"], atol=1e-6)
    assert (adversarial.min(), adversarial.max()) >= (0, 0)
    assert adversarial.max() <= 1
    assert (rows["source_prediction_before"] == rows["original_label"]).mean() > 0.9
    assert (rows["source_prediction_after"] == rows["label"]).mean() > 0.9
    if recipe == "d_det":
        assert (rows["label"] == (rows["original_label"] + 1) % 10).all()
    else:
        shares = rows.groupby("original_label")["label"].value_counts(normalize=True)
        assert shares.max() < 0.25, "targets do not depend on the true class"


@pytest.mark.slow
def test_one_shard_or_seven_make_the_same_bytes(
    quick: Experiment, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", 100_000)  # several parts, of shards and of data sets
    whole = quick.model_copy(update={"data": quick.data.model_copy(update={"train_size": 1000}), "shards": 1})
    contents = []
    for shards in (1, 7):
        store = Store(str(tmp_path_factory.mktemp(f"shards{shards}")))
        plan = build_plan(whole.model_copy(update={"shards": shards, "recipes": ("d_rand", "d_det")}))
        assert sum(stage.kind == "shard" for stage in plan.stages) == 2 * shards
        artifacts = compute_all(plan, store)
        contents.append(
            {
                title: {file.name: file.sha256 for file in store.manifest(artifact.digest).files}
                for title, artifact in artifacts.items()
                if "shard" not in title and title != "report"  # which tells the seconds that it took
            }
        )
    assert contents[0] == contents[1]
    assert len(contents[0]["data set d_det, seed 0"]) == 4


def test_what_a_shard_makes_a_piece_at_a_time_is_what_it_makes_whole(
    quick: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = quick.model_copy(
        update={
            "data": quick.data.model_copy(update={"train_size": 600}),
            "shards": 1,
            "recipes": ("d_rand",),
        }
    )
    plan = build_plan(whole)
    contents, told = [], list[tuple[int, int]]()
    for size in (4096, BATCH_SIZE):
        monkeypatch.setattr(dataset, "rows_made_at_once", lambda _, size=size: size)
        store = Store(str(tmp_path / str(size)))
        for stage in plan.stages:
            if stage.kind == "shard":
                told.clear()
                artifact = make_shard(stage, store, lambda done, count: told.append((done, count)))
                contents.append([file.sha256 for file in store.manifest(artifact.digest).files])
                break
            compute(stage, store)
    assert contents[0] == contents[1]
    assert told == sorted(told), "it only goes forward"
    assert told[-1] == (600, 600)


@dataclass
class Patterns:
    """Images that are drawn when they are looked at; of a hundred one is bright."""

    count: int
    shape: tuple[int, ...]
    asked: list[int] = field(default_factory=list)
    """How many at a time."""

    def __len__(self) -> int:
        return self.count

    @property
    def labels(self) -> NDArray[np.int64]:
        return np.arange(self.count) % 2

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        self.asked.append(len(rows))
        levels = np.where(rows % 100 == 7, 200, rows % 90).astype(np.uint8)
        pixels = np.empty((len(rows), *self.shape), np.uint8)
        pixels[:] = levels[:, None, None, None]
        pixels[..., ::3] //= 2
        return pixels


class Brightness(nn.Module):
    """Sees two classes: dark and bright."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([0.5 - mean, mean - 0.5], 1)


def of_patterns(shape: tuple[int, ...], count: int, *, normalized: bool) -> tuple[DatasetRequest, Patterns]:
    """Ask for as many bright as dark images, of which there are few: each comes fifty times."""
    patterns = Patterns(count, shape)
    request = DatasetRequest(
        recipe=RECIPES["cross_domain"],
        images=patterns,
        other_images=patterns,
        classes=2,
        seed=0,
        source_model=Normalized(Brightness(), shape[0]),
        settings=cross_domain.Settings(
            cross_domain=cross_domain.CrossDomain(normalized=normalized, balanced=True)
        ),
    )
    return request, patterns


@pytest.mark.parametrize("normalized", [False, True])
def test_of_large_images_few_are_in_memory_at_a_time(
    monkeypatch: pytest.MonkeyPatch, normalized: bool
) -> None:
    request, patterns = of_patterns((3, 224, 224), 400, normalized=normalized)
    rows = 0
    for table in dataset_tables(request):
        assert table.num_rows <= BATCH_SIZE
        rows += table.num_rows
    assert rows == 400
    assert max(patterns.asked) == BATCH_SIZE, "also where one image comes fifty times"

    def in_pieces_of(size: int) -> pa.Table:
        monkeypatch.setattr(dataset, "rows_at_once", lambda _: size)
        return pa.concat_tables(dataset_tables(of_patterns((3, 8, 8), 400, normalized=normalized)[0]))

    small, whole = in_pieces_of(BATCH_SIZE), in_pieces_of(4096)
    assert small.drop_columns("image") == whole.drop_columns("image")
    difference = np.abs(image_array(small, np.float32) - image_array(whole, np.float32)).max()
    assert difference <= (1e-5 if normalized else 0), "statistics of pieces round in their own way"


def test_the_summary_holds_no_images_and_does_not_show_how_rows_came(
    computed: tuple[Store, Plan],
) -> None:
    store, plan = computed
    (stage,) = [stage for stage in plan.stages if stage.title == "data set d_rand, seed 0"]
    whole = pa.concat_tables(stored_tables(store, stage.digest))
    told = store.manifest(stage.digest).metrics
    for size in (1, 100, 1024, 5000):
        summary = DatasetSummary(RECIPES["d_rand"])
        tables = [whole.slice(start, size) for start in range(0, whole.num_rows, size)]
        passed = summary.counted(tables)
        assert all(next(passed) is table for table in tables), "each goes on as it came"
        assert list(passed) == []
        assert summary.metrics().items() <= told.items()


def test_arrow_sees_plain_standard_columns(computed: tuple[Store, Plan]) -> None:
    """Whatever reads Parquet can read a data set: no extension type, no nested record."""
    store, plan = computed
    (stage,) = [stage for stage in plan.stages if stage.title == "data set d_rand, seed 0"]
    schema = pq.read_schema(io.BytesIO(store.read(stage.digest, "train-000000000.parquet")))
    types = {field.name: str(field.type) for field in schema}
    assert types.pop("image") == "fixed_size_list<element: float>[64]"
    assert types.pop("perturbation_norm") == "float"
    assert set(types.values()) == {"int64"}
    assert json.loads(schema.metadata[b"advfeat"]) == {"image_shape": [1, 8, 8]}
    assert read_classes(store, plan.stages[0].digest) == tuple("0123456789")
