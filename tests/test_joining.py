"""Shards become a data set: the same files however many there were, most of them taken over as they are."""

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import advfeat
from advfeat.catalogue.rows import StoredDataset
from advfeat.datasets.rows import DatasetSummary
from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import DamagedArtifactError
from advfeat.files import parts
from advfeat.files.tables import image_column, with_image_shape, write_split
from advfeat.recipes import RECIPES
from advfeat.stages.dataset import make_dataset
from advfeat.storage import Manifest, Stage, Store
from advfeat.upkeep.garbage import Forgotten, find_garbage, survey
from advfeat.upkeep.stock import take_stock
from advfeat.upkeep.usage import usage

ROW_BYTES = 4 * 12 + 5 * 8 + 4
IN_PART = 8
INPUTS = {"images": "0" * 64}
OF_ALL = {"recipe": "d_rand", "seed": 0}
COUNT = 50


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART_BYTES", IN_PART * ROW_BYTES)
    monkeypatch.setattr(parts, "GROUP_BYTES", 4 * ROW_BYTES)


def rows(count: int) -> pa.Table:
    rng = np.random.default_rng(0)
    names = ("label", "original_label", "source_prediction_before", "source_prediction_after")
    columns = {
        "index": pa.array(np.arange(count)),
        "image": image_column(rng.random((count, 3, 2, 2), np.float32)),
        **{name: pa.array(rng.integers(0, 3, count)) for name in names},
        "perturbation_norm": pa.array(rng.random(count, np.float32)),
    }
    return with_image_shape(pa.table(columns), (3, 2, 2))


def shard(store: Store, table: pa.Table, start: int, stop: int, *, before: int) -> str:
    """Write a shard as one is made; ``before`` are the rows before it, by which its parts are cut."""
    stage = Stage(kind="shard", title="shard", parameters={**OF_ALL, "rows": [start, stop]}, inputs=INPUTS)

    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, Any]:
        summary = DatasetSummary(RECIPES["d_rand"])
        tables = summary.counted([table.slice(start, stop - start)])
        write_split(tables, folder, "train", finished, rows_before=before)
        return summary.metrics()

    return store.write_streamed(stage, build).digest


def joined(store: Store, edges: Sequence[int], *, of_before: bool = False) -> tuple[Stage, Manifest]:
    """Make a data set of shards between these rows, as releases ``of_before`` cut them if wanted."""
    table = rows(edges[-1])
    shards = [
        shard(store, table, start, stop, before=0 if of_before else start) for start, stop in pairwise(edges)
    ]
    stage = Stage(kind="dataset", title="data set", parameters=OF_ALL, inputs=INPUTS, parts=tuple(shards))
    return stage, store.manifest(make_dataset(stage, store).digest)


def contents(manifest: Manifest) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Return what must be the same of a data set: its files, and its metrics but for the time it took."""
    metrics = {name: value for name, value in manifest.metrics.items() if name != "shard_seconds"}
    return [(file.name, file.sha256) for file in manifest.files], metrics


def paths(store: Store, digest: str) -> list[Path]:
    return [Path(store.artifact_uri(digest)) / file.path for file in store.manifest(digest).files]


@pytest.mark.parametrize("of_before", [False, True])
@pytest.mark.parametrize("edges", [[0, 20, 50], [0, 3, 3, 24, 40, 50], [0, 16, 32, 50], [0, 0, 50, 50]])
def test_rows_and_files_are_the_same_whatever_the_shards(
    tmp_path: Path, edges: list[int], of_before: bool
) -> None:
    _, whole = joined(Store(str(tmp_path / "one")), [0, COUNT])
    store = Store(str(tmp_path / "some"))
    _, manifest = joined(store, edges, of_before=of_before)
    assert contents(manifest) == contents(whole)
    assert [file.name for file in manifest.files] == [
        f"train-{start:09}.parquet" for start in range(0, COUNT, IN_PART)
    ]
    assert pa.concat_tables(stored_tables(store, manifest.digest)).combine_chunks() == rows(COUNT)
    assert store.verify(manifest.digest) is None


def test_no_rows_at_all_are_a_data_set_too(local_store: Store) -> None:
    _, manifest = joined(local_store, [0, 0, 0])
    assert [file.name for file in manifest.files] == ["train-000000000.parquet"]
    assert manifest.metrics["train_size"] == 0
    assert pa.concat_tables(stored_tables(local_store, manifest.digest)).num_rows == 0


def test_parts_that_lie_within_a_shard_are_not_written_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded = list[str]()
    upload = Store._upload

    def seen(self: Store, digest: str, path: Path) -> Any:
        uploaded.append(path.name)
        return upload(self, digest, path)

    stage, _ = joined(store, [0, 20, COUNT])
    store.withdraw(stage.digest)
    monkeypatch.setattr(Store, "_upload", seen)
    digest = make_dataset(stage, store).digest
    assert uploaded == ["train-000000016.parquet"], "the one part that both shards hold rows of"
    assert store.verify(digest) is None
    if store.is_local:
        names = [
            path.samefile(other) for path in paths(store, digest) for other in paths(store, stage.parts[0])
        ]
        assert sum(names) == 2


def test_what_can_neither_be_linked_nor_copied_there_is_copied_here(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the shard's files belong to another user, or the server copies nothing."""
    link = Path.hardlink_to

    def links_manifests_alone(path: Path, target: Path) -> None:
        if path.name != "manifest.json":
            raise PermissionError("another user's")
        link(path, target)

    def copies_nothing(*_: Any) -> None:
        raise NotImplementedError("no copies")

    if store.is_local:
        monkeypatch.setattr(Path, "hardlink_to", links_manifests_alone)
    else:
        monkeypatch.setattr(store.fs, "cp_file", copies_nothing)
    stage, _ = joined(store, [0, COUNT])
    assert store.verify(stage.digest) is None
    assert pa.concat_tables(stored_tables(store, stage.digest)).combine_chunks() == rows(COUNT)
    assert store.is_local or "is copied through this machine (no copies)" in caplog.text


@pytest.mark.parametrize("missing", [False, True])
def test_a_shards_damage_never_becomes_the_data_sets(local_store: Store, missing: bool) -> None:
    stage, whole = joined(local_store, [0, 20, COUNT])
    shutil.rmtree(local_store.artifact_uri(stage.digest))
    damaged = paths(local_store, stage.parts[1])[1]
    if missing:
        damaged.unlink()
    else:
        damaged.write_bytes(damaged.read_bytes()[:-9] + b"123456789")
    with pytest.raises(DamagedArtifactError, match=damaged.name):
        make_dataset(stage, local_store)
    assert local_store.find(stage.digest) is None
    _, mended = joined(local_store, [0, 20, COUNT])
    assert contents(mended) == contents(whole)


def test_a_data_set_outlives_its_shards_and_is_counted_once(local_store: Store) -> None:
    stage, _ = joined(local_store, [0, 20, COUNT])

    def on_disk() -> int:
        files = [path.stat() for path in Path(local_store.root).rglob("*.*")]
        return sum({file.st_ino: file.st_size for file in files}.values())

    kinds = {kind.kind: kind for kind in usage(local_store, take_stock(local_store), ()).kinds}
    assert kinds["shard"].bytes + kinds["dataset"].bytes == on_disk()
    surveyed = survey(local_store)
    later = replace(surveyed, now=surveyed.now + timedelta(days=2))
    garbage = find_garbage(local_store, later, [], Forgotten())
    assert sum(entry.bytes for entry in garbage) == on_disk()

    before = on_disk()
    of_shards = [entry for entry in garbage if entry.what == "shard"]
    local_store.delete(file.path for entry in of_shards for file in entry.files)
    assert before - on_disk() == sum(entry.bytes for entry in of_shards) > 0
    assert local_store.verify(stage.digest) is None
    assert local_store.intact(stage.digest) is not None


def test_old_parts_get_a_date_of_their_own(local_store: Store) -> None:
    """Else what is not finished would look left over for long."""
    stage, _ = joined(local_store, [0, 20, COUNT])
    shutil.rmtree(local_store.artifact_uri(stage.digest))
    days_ago = time.time() - 3 * 24 * 3600
    for one in stage.parts:
        for path in Path(local_store.artifact_uri(one)).iterdir():
            os.utime(path, (days_ago, days_ago))
    make_dataset(stage, local_store)
    assert all(path.stat().st_mtime > days_ago + 3600 for path in paths(local_store, stage.digest))


def test_a_copy_of_a_store_or_of_the_data_set_alone_is_complete(local_store: Store, tmp_path: Path) -> None:
    stage, _ = joined(local_store, [0, 20, COUNT])
    copied = tmp_path / "copied"
    shutil.copytree(local_store.root, copied)
    alone = tmp_path / "alone"
    shutil.copytree(local_store.artifact_uri(stage.digest), alone / "artifacts" / stage.digest)
    shutil.rmtree(local_store.root)
    for place in (copied, alone):
        data_set = advfeat.store(place).load(stage.digest)
        assert isinstance(data_set, StoredDataset)
        assert len(data_set) == COUNT
        labels = np.array([int(data_set[row][1]) for row in range(COUNT)])
        assert np.array_equal(labels, rows(COUNT).column("label").to_numpy())
