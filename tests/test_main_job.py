"""The main job as a user runs it: default preset, embedded Prefect server and Ray, local store."""

import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from advfeat.planning import build_plan, load_experiment
from advfeat.storage import Store
from tests.command import Command, unconfigured
from tests.inline import compute

pytestmark = pytest.mark.all_cores

Json = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Command:
    """``advfeat`` in a folder that the tests of this file share, in their order.

    It holds modules of the user's own under names of others, and stands on PYTHONPATH.
    """
    folder = tmp_path_factory.mktemp("home")
    (folder / "flows").mkdir()
    for module in ("tasks.py", "secrets.py", "flows/__init__.py"):
        (folder / module).write_text("raise RuntimeError('a module of the user stood in for another')\n")
    return Command(folder, {"PYTHONPATH": str(folder)})


@pytest.fixture(scope="module")
def first(home: Command, shared_store: Store) -> Json:
    """The default run on a cold store: ``advfeat run --json``; other tests may have what it computed."""
    done = home("run", "--json")
    assert done.returncode == 0, done.stderr
    assert home.left_processes(3) == []
    assert "computed (" in done.stderr, "progress with a rate and the time left"
    assert "image passes/s, about" in done.stderr
    (line,) = done.stdout.splitlines()
    result: Json = json.loads(line)
    share(home.folder / ".advfeat" / "store", Path(shared_store.uri))
    return result


def share(store: Path, other: Path) -> None:
    """Copy a store's artifacts into another, each folder at once."""
    (other / "artifacts").mkdir(parents=True, exist_ok=True)
    for artifact in (store / "artifacts").iterdir():
        draft = shutil.copytree(artifact, other / "drafts" / artifact.name)
        with suppress(OSError):  # another process of the suite has computed it
            draft.rename(other / "artifacts" / artifact.name)


def rows(result: Json) -> dict[str, Json]:
    return {row["recipe"]: row for row in result["rows"]}


def without_cost(result: Json) -> dict[str, Json]:
    """Return what was found, without the seconds that it took, which differ each time."""
    return {recipe: {**row, "cost": None} for recipe, row in rows(result).items()}


def test_a_network_learns_from_nothing_but_wrong_labels(first: Json) -> None:
    accuracy = {recipe: row["test_accuracy"] for recipe, row in rows(first).items()}
    assert accuracy["clean"] >= 0.96
    assert accuracy["d_rand"] >= 0.80
    assert accuracy["d_det"] >= 0.50
    assert accuracy["mislabeled"] >= 0.20
    assert accuracy["shuffled"] <= 0.15
    for row in rows(first).values():
        assert row["seeds"] == [0, 1, 2]
        assert row["ci95"][0] <= row["test_accuracy"] <= row["ci95"][1]
    assert rows(first)["d_rand"]["attack_success"] > 0.9
    assert rows(first)["d_det"]["wrong_label_share"] == 1
    assert rows(first)["mislabeled"]["wrong_label_share"] == 1
    assert first["stages"] == {"total": 65, "computed": 65, "cached": 0}
    assert "<svg" in Path(first["report"]).read_text()


def test_a_second_run_takes_every_stage_from_the_cache_and_prints_the_table(
    home: Command, first: Json
) -> None:
    printed = home.succeed("run")
    assert "65 stages, 0 computed, 65 cached" in printed
    for recipe, row in rows(first).items():
        (line,) = [line for line in printed.splitlines() if line.startswith(f"│ {recipe} ")]
        assert f"{100 * row['test_accuracy']:.1f} %" in line
        assert f"{100 * row['chance']:.1f} %" in line
    assert "63.3 %, CIFAR-10, ResNet-50, L2 eps 0.5, 100 steps (Ilyas et al. 2019, table 1)" in printed
    assert "Data set and net of the published figures differ" in printed
    assert printed.splitlines()[-1] == f"report: {first['report']}"
    assert home.left_processes(3) == []


def test_ls_show_and_verify(home: Command, first: Json) -> None:
    artifacts = json.loads(home.succeed("ls", "--json"))
    assert len(artifacts) == first["stages"]["total"]
    assert {frozenset(artifact) for artifact in artifacts} == {
        frozenset(
            {
                *("digest", "stage", "recipe", "seed", "data", "norm", "eps", "source_model", "target_model"),
                *("images", "test_accuracy", "attack_success", "bytes", "created", "uri"),
            }
        )
    }
    of_d_det = json.loads(home.succeed("ls", "--json", "--recipe", "d_det", "--stage", "dataset"))
    assert sorted((entry["seed"], entry["eps"]) for entry in of_d_det) == [(0, 1.5), (1, 1.5), (2, 1.5)]
    datasets = [artifact for artifact in artifacts if artifact["stage"] == "dataset"]
    assert len(datasets) == 15
    assert (Path(datasets[0]["uri"]) / "manifest.json").is_file()
    shown = json.loads(home.succeed("show", datasets[0]["digest"][:10]))
    assert shown["digest"] == datasets[0]["digest"]
    assert home.succeed("verify").strip() == "65 artifacts read, 0 damaged"


def test_shards_and_workers_do_not_show_in_the_data_set(home: Command, first: Json, tmp_path: Path) -> None:
    """Two Ray workers with two shards against this process with seven, bit for bit."""
    on_ray = Store(str(home.folder / ".advfeat" / "store"))
    inline = Store(str(tmp_path / "store"))
    plan = build_plan(load_experiment("digits", ["seeds=[0]", "recipes=[d_rand]", "shards=7"]))
    for stage in plan.stages:
        if stage.kind != "report":
            compute(stage, inline)
            if stage.kind != "shard":
                files = [store.manifest(stage.digest).files for store in (on_ray, inline)]
                assert files[0] == files[1], stage.title


def test_another_eps_recomputes_generation_and_targets_only(home: Command, first: Json) -> None:
    arguments = ("--set", "seeds=[0]", "--set", "recipes=[d_det]", "--set", "attack.eps=1.0")
    planned = json.loads(home.succeed("plan", "--json", *arguments))
    to_compute = {entry["title"] for entry in planned if entry["state"] == "compute"}
    assert to_compute == {
        "data set d_det, seed 0, shard 1 of 2",
        "data set d_det, seed 0, shard 2 of 2",
        "data set d_det, seed 0",
        "target model d_det, seed 0",
        "evaluation d_det, seed 0",
        "report",
    }


def test_lost_artifacts_are_told_and_computed_again(
    home: Command, first: Json, prefect_api: dict[str, str]
) -> None:
    store = home.folder / ".advfeat" / "store" / "artifacts"
    titles = {entry["title"]: entry["digest"] for entry in json.loads(home.succeed("plan", "--json"))}
    deleted, damaged = titles["target model clean, seed 1"], titles["data set shuffled, seed 2"]
    for file in (store / deleted).iterdir():
        file.unlink()
    (payload,) = (store / damaged).glob("*.parquet")
    payload.write_bytes(bytes(reversed(payload.read_bytes())))
    assert home("verify", damaged).returncode == 1

    done = Command(home.folder, prefect_api)("run", "--json")
    assert "target model clean, seed 1: deleted: " in done.stderr
    assert "data set shuffled, seed 2: damaged: " in done.stderr
    result = json.loads(done.stdout)
    assert result["stages"] == {"total": 65, "computed": 2, "cached": 63}
    assert without_cost(result) == without_cost(first)
    assert home.succeed("verify").splitlines()[-1].endswith(" 0 damaged")


CHECK = """
import sys
from advfeat.flows.regression import Expected, regression
figures = tuple(Expected(recipe=recipe, low=low, high=1) for recipe, low in (("clean", 0.9), ("d_det", 0.99)))
regression(sys.argv[1], expected=figures)
"""


def test_the_scheduled_check_fails_when_a_figure_left_its_interval(
    home: Command, first: Json, prefect_api: dict[str, str]
) -> None:
    command = [sys.executable, "-c", CHECK, str(home.folder / ".advfeat" / "store")]
    done = subprocess.run(
        command, env={**unconfigured(), **prefect_api}, capture_output=True, text=True, check=False
    )
    mean = rows(first)["d_det"]["test_accuracy"]
    assert f"FigureOutsideError: d_det: {mean:.3f} is not in 0.990 to 1.000" in done.stderr
    assert "clean: " not in done.stderr.splitlines()[-1]
    assert "[65/65] report: cached" in done.stderr


def test_the_store_holds_no_pickle(home: Command, first: Json) -> None:
    files = [path for path in (home.folder / ".advfeat" / "store").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".json", ".parquet", ".safetensors", ".html", ".md", ""}
    for path in files:
        if path.suffix == "":
            assert json.loads(path.read_text())["metadata"]["serializer"]["type"] == "json"
