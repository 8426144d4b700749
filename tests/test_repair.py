"""Damaged artifacts are computed again, byte for byte, and stay where that cannot be."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from advfeat.flows.command_line.cli import app
from advfeat.planning import Plan, build_plan, load_experiment
from advfeat.stages import inline
from advfeat.storage import ArtifactRef, Stage, Store
from advfeat.storage.runs import keep_plan
from tests.inline import compute_all

QUICK = (
    *("data.train_size=96", "data.test_size=64", "seeds=[0]", "recipes=[d_rand]"),
    *("source.epochs=1", "target.epochs=1", "attack.steps=2"),
)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Store]:
    """A small experiment with its artifacts, and the plan of the run that made them."""
    plan = build_plan(load_experiment("digits", QUICK))
    store = Store(str(tmp_path_factory.mktemp("computed")))
    compute_all(plan, store)
    keep_plan(store, "run", plan.stages)
    return plan, store


@pytest.fixture
def damaged_store(computed: tuple[Plan, Store], tmp_path: Path) -> Store:
    """A copy of that store, to be damaged."""
    shutil.copytree(computed[1].root, tmp_path / "store")
    return Store(str(tmp_path / "store"))


def manifest_of(store: Store, stage: Stage) -> Path:
    return Path(store.artifact_uri(stage.digest)) / "manifest.json"


def payload_of(store: Store, stage: Stage) -> Path:
    file = store.manifest(stage.digest).files[0]
    return Path(store.artifact_uri(stage.digest)) / file.path


def rot(path: Path) -> None:
    """Flip a bit in the middle of a file, which keeps its size and its time."""
    content, times = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def edit(path: Path) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 0.0}))


def verify(store: Store, *arguments: str) -> tuple[int, list[str]]:
    """Run the command; return its exit code and what it printed, without digests."""
    done = CliRunner().invoke(app, ["verify", *arguments, "--store", store.uri])
    return done.exit_code, [line.partition("  ")[2] or line for line in done.output.splitlines()]


def files(store: Store, stage: Stage) -> dict[str, str]:
    return {file.name: file.sha256 for file in store.manifest(stage.digest).files}


def by_title(plan: Plan) -> dict[str, Stage]:
    return {stage.title: stage for stage in plan.stages}


def test_everything_damaged_is_computed_again_as_it_was(
    computed: tuple[Plan, Store], damaged_store: Store
) -> None:
    plan, whole = computed
    stages = by_title(plan)
    rot(payload_of(damaged_store, stages["images digits"]))
    rot(payload_of(damaged_store, stages["source model, seed 0"]))
    manifest_of(damaged_store, stages["source model, seed 0"]).write_text("{")
    shutil.rmtree(damaged_store.artifact_uri(stages["data set d_rand, seed 0, shard 1 of 1"].digest))
    edit(manifest_of(damaged_store, stages["data set d_rand, seed 0"]))
    payload_of(damaged_store, stages["evaluation d_rand, seed 0"]).unlink()
    code, before = verify(damaged_store)
    assert code == 1
    assert before[-1] == f"{len(plan.stages) - 1} artifacts read, 4 damaged"

    code, lines = verify(damaged_store, "--repair")
    assert code == 0, lines
    repaired = [line.removeprefix("repaired  ").partition(" (")[0] for line in lines if "repaired" in line]
    assert sorted(repaired) == [
        "data set d_rand, seed 0",
        "data set d_rand, seed 0, shard 1 of 1",
        "evaluation d_rand, seed 0",
        "images digits",
        "source model, seed 0",
    ]
    assert not [line for line in lines if line.startswith("CHANGED")]
    assert verify(damaged_store) == (0, [f"{len(plan.stages)} artifacts read, 0 damaged"])
    for stage in plan.stages:
        assert files(damaged_store, stage) == files(whole, stage)


def test_a_part_that_a_shard_and_its_data_set_share_is_repaired_in_both(
    computed: tuple[Plan, Store], damaged_store: Store
) -> None:
    plan, whole = computed
    stages = by_title(plan)
    both = stages["data set d_rand, seed 0"], stages["data set d_rand, seed 0, shard 1 of 1"]
    assert payload_of(whole, both[0]).samefile(payload_of(whole, both[1]))
    for stage in both:  # the copied store holds two files
        rot(payload_of(damaged_store, stage))
    code, lines = verify(damaged_store, both[0].digest, "--repair")
    assert code == 0, lines
    assert sum(line.startswith("repaired") for line in lines) == 2
    for stage in both:
        assert files(damaged_store, stage) == files(whole, stage)


def test_a_folder_in_a_files_place_is_repaired_like_other_damage(
    computed: tuple[Plan, Store], damaged_store: Store
) -> None:
    plan, whole = computed
    stages = by_title(plan)
    manifest = manifest_of(damaged_store, stages["source model, seed 0"])
    payload = payload_of(damaged_store, stages["images digits"])
    for path in (manifest, payload):
        path.unlink()
        path.mkdir()
    (manifest / "mine.txt").write_text("mine")
    code, lines = verify(damaged_store)
    assert (code, lines[-1]) == (1, f"{len(plan.stages)} artifacts read, 2 damaged")
    told = [line for line in lines if line.startswith("DAMAGED")]
    assert sorted(told) == [
        "DAMAGED  manifest.json is not a regular file",
        f"DAMAGED  {payload.name} is not a regular file",
    ]
    code, lines = verify(damaged_store, "--repair")
    assert code == 0, lines
    assert len([line for line in lines if line.startswith("repaired")]) == 2
    assert verify(damaged_store) == (0, [f"{len(plan.stages)} artifacts read, 0 damaged"])
    for stage in plan.stages:
        assert files(damaged_store, stage) == files(whole, stage)


def test_a_whole_manifest_suffices_where_no_run_is_known(
    computed: tuple[Plan, Store], damaged_store: Store
) -> None:
    plan, whole = computed
    shutil.rmtree(Path(damaged_store.root) / "plans")
    stages = by_title(plan)
    for title in ("source model, seed 0", "data set d_rand, seed 0"):
        rot(payload_of(damaged_store, stages[title]))
    one = stages["data set d_rand, seed 0"]
    code, lines = verify(damaged_store, one.digest, "--repair")
    assert code == 0, lines
    assert [line.split()[0] for line in lines[2:]] == ["repaired", "repaired"], "its input too"
    assert verify(damaged_store)[0] == 0
    assert files(damaged_store, one) == files(whole, one)


def no_plans(store: Store, plan: Plan) -> None:
    shutil.rmtree(Path(store.root) / "plans")


def other_images(store: Store, plan: Plan) -> None:
    """Let the plan point to images that are others than those that the stage means."""
    first, *others = plan.stages
    context = {"data": {**first.context["data"], "source": "photo-patches"}}
    keep_plan(store, "run", [first.model_copy(update={"context": context}), *others])


def images_away(store: Store, plan: Plan) -> None:
    first, *others = plan.stages
    context = {"data": {**first.context["data"], "source": "folder:/nowhere"}}
    keep_plan(store, "run", [first.model_copy(update={"context": context}), *others])


def garbled_plan(store: Store, plan: Plan) -> None:
    first, *others = plan.stages
    keep_plan(store, "run", [first.model_copy(update={"context": {"data": {"source": 5}}}), *others])


@pytest.mark.parametrize(
    ("befallen", "reason"),
    [
        (no_plans, "no run's plan says where its images came from"),
        (other_images, "holds other images now"),
        (images_away, "'folder:/nowhere' is not a folder"),
        (garbled_plan, "source: Input should be a valid string"),
    ],
)
def test_what_cannot_be_computed_again_is_said_and_stays(
    computed: tuple[Plan, Store],
    damaged_store: Store,
    befallen: Callable[[Store, Plan], None],
    reason: str,
) -> None:
    plan, _ = computed
    stages = by_title(plan)
    images, model = stages["images digits"], stages["source model, seed 0"]
    befallen(damaged_store, plan)
    for stage in (images, model):
        rot(payload_of(damaged_store, stage))
    code, lines = verify(damaged_store, "--repair")
    assert code == 1
    failures = [line for line in lines if line.startswith("NOT REPAIRED")]
    assert len(failures) == 2
    assert all(reason in line for line in failures)
    assert any(f"needs {images.digest[:12]}: " in line for line in failures)
    for stage in (images, model):
        assert manifest_of(damaged_store, stage).exists()
        assert payload_of(damaged_store, stage).exists()


def test_a_surprise_does_not_keep_others_from_being_mended(
    computed: tuple[Plan, Store], damaged_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(stage: Stage, store: Store) -> ArtifactRef:
        raise RuntimeError("CUDA out of memory\nTried to allocate")

    plan, _ = computed
    monkeypatch.setitem(inline._COMPUTATIONS, "source_model", fail)
    for stage in plan.stages:
        rot(payload_of(damaged_store, stage))
    code, lines = verify(damaged_store, "--repair")
    assert code == 1
    told = [line for line in lines if line.startswith(("NOT REPAIRED", "repaired"))]
    assert len(told) == len(plan.stages)
    assert "NOT REPAIRED  source model, seed 0: CUDA out of memory" in told
    assert any(line.startswith("repaired  images digits") for line in told)


def test_other_bytes_than_before_are_told(computed: tuple[Plan, Store], damaged_store: Store) -> None:
    """A manifest that promises other bytes stands for a machine that rounds in another way."""
    stage = by_title(computed[0])["evaluation d_rand, seed 0"]
    manifest = damaged_store.manifest(stage.digest)
    (file,) = manifest.files
    elsewhere = manifest.model_copy(
        update={"files": (file.model_copy(update={"sha256": "0" * 64}),)}
    ).sealed()
    manifest_of(damaged_store, stage).write_text(elsewhere.model_dump_json())
    code, lines = verify(damaged_store, "--repair")
    assert code == 0
    assert [line for line in lines if line.startswith("CHANGED  predictions.parquet: complete, but")]
    assert verify(damaged_store)[0] == 0


def test_a_finished_set_is_read_again_from_where_it_came(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 8, 8, 1), np.float32), rng.integers(0, 10, 40)
    np.savez(tmp_path / "set.npz", images=images, labels=labels)
    settings = (*QUICK, "recipes=[imported]", f"imported=numpy:{tmp_path}/set.npz")
    plan = build_plan(load_experiment("digits", settings))
    store = Store(str(tmp_path / "store"))
    compute_all(plan, store)
    stage = by_title(plan)["data set imported"]
    whole = files(store, stage)

    rot(payload_of(store, stage))
    code, lines = verify(store, "--repair")
    assert code == 1
    assert "no run's plan says where its images came from" in lines[-1]
    keep_plan(store, "run", plan.stages)
    code, lines = verify(store, "--repair")
    assert code == 0, lines
    assert files(store, stage) == whole

    np.savez(tmp_path / "set.npz", images=images[::-1], labels=labels)
    rot(payload_of(store, stage))
    code, lines = verify(store, "--repair")
    assert code == 1
    assert "holds other images now" in "\n".join(lines)
