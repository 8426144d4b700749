"""A store that an earlier version wrote is read, planned on and verified by this one.

``tests/stores/before_the_wings`` was written by the version of 2026-11-26, whose modules had other names:

    advfeat run digits --store before_the_wings --set name=before --set data.train_size=100
        --set data.test_size=40 --set 'seeds=[0]' --set 'recipes=[clean,d_det,mislabeled]'
        --set source.width=4 --set source.epochs=2 --set weak_source.width=4 --set target.width=4
        --set target.epochs=1 --set attack.steps=2
"""

import shutil
from pathlib import Path

import pytest

import advfeat
from advfeat.catalogue.rows import StoredDataset
from advfeat.datasets.card import card_of
from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.errors import InputError
from advfeat.planning import build_plan, load_experiment, outlook
from advfeat.report.comparison import compare
from advfeat.report.rows import read_rows
from advfeat.stages.model import read_model
from advfeat.storage import Stage, Store
from advfeat.storage.runs import planned_stages, read_records, report_named

WRITTEN = Path(__file__).parent / "stores" / "before_the_wings"
SETTINGS = (
    *("name=before", "data.train_size=100", "data.test_size=40", "seeds=[0]"),
    *("recipes=[clean,d_det,mislabeled]", "source.width=4", "source.epochs=2", "weak_source.width=4"),
    *("target.width=4", "target.epochs=1", "attack.steps=2"),
)


@pytest.fixture
def before(tmp_path: Path) -> Store:
    shutil.copytree(WRITTEN, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def test_the_same_experiment_has_every_stage_there_but_the_report(before: Store) -> None:
    """Reports have another version since: verdicts know whether an attack failed."""
    entries = outlook(build_plan(load_experiment("digits", SETTINGS)), before)
    assert {entry.stage.kind for entry in entries if entry.state != "cached"} == {"report"}
    changed = outlook(build_plan(load_experiment("digits", [*SETTINGS, "target.epochs=2"])), before)
    fresh = {entry.stage.kind for entry in changed if entry.state == "compute"}
    assert fresh == {"target_model", "evaluation", "report"}


def test_every_byte_is_what_its_manifest_promises(before: Store) -> None:
    digests = before.digests()
    assert len(digests) == 14
    assert {digest: before.verify(digest) for digest in digests} == dict.fromkeys(digests)


def test_runs_rows_models_and_data_sets_are_read(before: Store) -> None:
    (record,) = read_records(before)
    assert (record.state, record.title) == ("completed", "before")
    report = report_named(before, record.run[:8])
    assert set(before.digests()) - set(planned_stages(before)) == {report}
    rows = read_rows(before, report)
    assert [row.recipe for row in rows] == ["clean", "d_det", "mislabeled"]
    assert [(row.verdict, row.verdict_reason) for row in rows][:2] == [("open", None), ("contrary", None)]
    assert compare(before, report, report).changes == ()

    catalogue = advfeat.store(before.uri)
    (digest,) = catalogue.datasets(recipe="d_det").digest
    data_set = catalogue.load(digest)
    assert isinstance(data_set, StoredDataset)
    assert len(data_set) == 100
    assert card_of(before, digest).recipe == "d_det"
    for model in catalogue.artifacts(stage="target_model").digest:
        assert not read_model(before, model).training


def test_a_model_that_is_refused_today_is_read(local_store: Store) -> None:
    """Its linf eps of 8 was meant in grey levels, and was accepted once."""
    attack = {"norm": "linf", "eps": 8.0, "steps": 1, "targeted": False}
    training = load_experiment("digits").source.model_dump(mode="json") | {"adversarial": attack}
    stage = Stage(kind="source_model", title="robust", parameters={"training": training, "seed": 0})

    def build(folder: Path) -> dict[str, object]:
        (folder / "model.safetensors").write_bytes(b"")
        return {"train_accuracy": 0.5, "test_accuracy": 0.5, "epoch_losses": [1.0]}

    local_store.write_stage(stage, build)
    assert local_store.verify(stage.digest) is None
    assert local_store.manifest(stage.digest).parameters["training"]["adversarial"]["eps"] == 8
    assert "adversarial training" in lineage_text(lineage(local_store, stage.digest))
    with pytest.raises(InputError, match="did you mean 8/255"):
        load_experiment("digits", ["source.adversarial={norm: linf, eps: 8, steps: 1}"])
