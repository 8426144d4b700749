"""A stage whose training is cut off goes on from the store, and ends with the same bytes."""

from pathlib import Path

import pytest

from advfeat.planning import build_plan, load_experiment
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.stages.model import train_model
from advfeat.storage import Store
from tests.inline import compute


def test_a_cut_off_stage_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StageCheckpoint, "seconds_between", 0)
    settings = ["seeds=[0]", "recipes=[d_rand]", "source.epochs=4", "source.width=8", "data.train_size=300"]
    images, source = build_plan(load_experiment("digits", settings)).stages[:2]
    assert source.kind == "source_model"
    undisturbed, store = Store(str(tmp_path / "undisturbed")), Store(str(tmp_path / "cut"))
    for each in (undisturbed, store):
        compute(images, each)
    expected = train_model(source, undisturbed)

    def cut_off(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(source, store, cut_off)
    assert store.find(source.digest) is None
    assert store.fs.exists(f"{store.checkpoints}/{source.digest}")

    seen: list[int] = []
    resumed = train_model(source, store, lambda done, _: seen.append(done))
    assert min(seen) > 600, "two of the four epochs were kept"
    assert resumed.metrics == expected.metrics
    assert store.read(source.digest, "model.safetensors") == undisturbed.read(
        source.digest, "model.safetensors"
    )
    assert not store.fs.exists(f"{store.checkpoints}/{source.digest}")


def test_the_last_state_counts(store: Store) -> None:
    checkpoint = StageCheckpoint(store, "0" * 64)
    assert checkpoint.load() is None
    checkpoint.save(b"one")
    checkpoint.save(b"two")
    assert StageCheckpoint(store, "0" * 64).load() == b"two"
    checkpoint.delete()
    checkpoint.delete()
    assert checkpoint.load() is None
