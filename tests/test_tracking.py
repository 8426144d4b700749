"""Finished runs, told to MLflow, W&B and TensorBoard, and read back by these tools' own readers."""

import json
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import advfeat
from advfeat.errors import InputError, TrackingError
from advfeat.flows import python_api
from advfeat.flows.command_line.cli import app
from advfeat.flows.result import RunResult
from advfeat.planning import (
    Plan,
    build_grid_plan,
    build_plan,
    grid_report,
    load_experiment,
    load_grid,
    points,
    title_of,
)
from advfeat.report.rows import Row, read_rows
from advfeat.storage import Store
from advfeat.storage.runs import RunRecord, StageCounts, keep_record
from advfeat.tracking.finished import finished_run
from advfeat.tracking.mlflow_server import _named
from advfeat.tracking.targets import Target
from tests.inline import compute_all
from tests.servers import free_ports, mlflow_server

RUN = "3f1f9c0a-6a53-4a6e-9f0c-0123456789ab"
SMALL = ("data.train_size=64", "data.test_size=40", "source.epochs=2", "target.epochs=3", "attack.steps=2")
FIGURES = """
def confidence(target_model, images):
    return {"sure, by 100 %": target_model(images).softmax(1).amax(1).mean()}
"""


class Found:
    """A finished run as its store has it, read without what is tested here."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store, self.report = store, plan.report.digest
        self.rows: dict[str, Row] = {row.recipe: row for row in read_rows(store, self.report)}
        self._inputs = store.manifest(self.report).inputs

    def losses(self, recipe: str, seed: int, role: str) -> list[float]:
        losses: list[float] = self._metrics(recipe, seed, f"{role}_model")["epoch_losses"]
        return losses

    def data_set(self, recipe: str, seed: int) -> str:
        return self._inputs[f"{recipe}/{seed}/dataset"]

    def _metrics(self, recipe: str, seed: int, role: str) -> dict[str, Any]:
        return self.store.manifest(self._inputs[f"{recipe}/{seed}/{role}"]).metrics


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A run of two recipes and two seeds, with accuracies under attack and a figure of the user's own."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "figures.py").write_text(FIGURES)
    attack = "evaluation.attack={norm: linf, eps: 0.1, steps: 2}"
    measures = f"evaluation.measures=['{folder}/figures.py:confidence']"
    store = Store(str(folder / "store"))
    plan = build_plan(
        load_experiment(
            "digits", [*SMALL, attack, measures, "name=small", "recipes=[clean,d_rand]", "seeds=[0,1]"]
        )
    )
    compute_all(plan, store)
    record = RunRecord(
        run=RUN,
        flow="learning-from-errors",
        title="small",
        state="completed",
        began=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).isoformat(),
        seconds=2.0,
        stages=StageCounts(total=len(plan.stages), computed=len(plan.stages), cached=0),
        report=plan.report.digest,
    )
    keep_record(store, record)
    return Found(store, plan)


@pytest.fixture(scope="module")
def mlflow_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with mlflow_server(tmp_path_factory.mktemp("mlflow")) as uri:
        yield uri


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which W&B writes and asks nobody."""
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "data"))
    wandb.teardown()
    yield tmp_path / "wandb"
    wandb.teardown()


def told(found: Found, to: str, run: str = RUN[:8]) -> dict[str, Any]:
    """Return what ``advfeat track`` printed."""
    before = dict(os.environ)
    done = CliRunner().invoke(app, ["track", run, "--store", found.store.uri, "--to", to, "--json"])
    assert done.exit_code == 0, done.exception
    assert dict(os.environ) == before
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


@pytest.mark.servers
def test_mlflow_holds_a_run_a_row_once(found: Found, mlflow_uri: str) -> None:
    from mlflow.tracking import MlflowClient

    answer = told(found, f"mlflow:{mlflow_uri}")
    assert (answer["rows"], answer["new"], answer["title"]) == (2, 2, "small")

    client = MlflowClient(mlflow_uri)
    (experiment,) = [each for each in client.search_experiments() if each.name == "small"]
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert runs.keys() == {"clean", "d_rand"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    run, row = runs["d_rand"], found.rows["d_rand"]
    assert run.info.start_time == 1000 * int(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp())

    parameters = run.data.params
    assert (parameters["recipe"], parameters["seeds"]) == ("d_rand", "0, 1")
    assert (parameters["attack.steps"], parameters["source.epochs"]) == ("2", "2")
    assert "attack.eps" not in runs["clean"].data.params, "clean has no attack"
    assert not [name for name in parameters if name.startswith(("weak_source", "two_dimensional"))]

    metrics = run.data.metrics
    assert metrics["test_accuracy"] == row.test_accuracy
    assert (metrics["ci95_low"], metrics["ci95_high"]) == row.ci95
    assert metrics["attack_success"] == row.attack_success
    assert metrics["seed_1/test_accuracy"] == row.test_accuracies[1]
    assert metrics["robust_accuracies/L-infinity 0.1"] == row.robust_accuracies["L-infinity 0.1"]
    assert metrics["measures/sure_ by 100 _"] == row.measures["sure, by 100 %"]
    for role in ("source", "target"):
        by_seed = [found.losses("d_rand", seed, role) for seed in (0, 1)]
        for seed, losses in enumerate(by_seed):
            assert history(client, run, f"seed_{seed}/{role}_loss") == dict(enumerate(losses, start=1))
        means = {epoch: sum(both) / 2 for epoch, both in enumerate(zip(*by_seed, strict=True), start=1)}
        assert history(client, run, f"{role}_loss") == pytest.approx(means)

    tags = run.data.tags
    assert tags["advfeat.run"] == RUN
    assert tags["advfeat.data_set.seed_1.digest"] == found.data_set("d_rand", 1)
    assert Path(tags["advfeat.data_set.seed_1.uri"], "manifest.json").is_file()
    page = Path(client.download_artifacts(run.info.run_id, "report.html")).read_bytes()
    assert page == found.store.read(found.report, "report.html")

    assert told(found, f"mlflow:{mlflow_uri}")["new"] == 0
    client.update_run(run.info.run_id, status="RUNNING")  # as if it had broken off
    assert told(found, f"mlflow:{mlflow_uri}", found.report[:10])["new"] == 1, "the digest names the run too"
    again = client.search_runs([experiment.experiment_id])
    assert sorted(each.info.run_name for each in again) == ["clean", "d_rand"]
    assert {each.info.status for each in again} == {"FINISHED"}


def history(client: Any, run: Any, name: str) -> dict[int, float]:
    return {point.step: point.value for point in client.get_metric_history(run.info.run_id, name)}


def test_wandb_holds_a_run_a_row_offline(found: Found, offline: Path) -> None:
    assert told(found, "wandb:somebody/errors")["new"] == 2
    assert told(found, "wandb:somebody/errors")["new"] == 2, "what was not sent is written anew"
    files = sorted(offline.glob("offline-run-*/*.wandb"), key=lambda file: file.name)
    assert [file.name for file in files] == [f"run-{RUN}-{number}.wandb" for number in (0, 1)]

    records = inspected(files[1])
    (run,) = records["run"]
    assert (run["project"], run["entity"], run["display_name"]) == ("errors", "somebody", "d_rand")
    config, row = run["config"]["update"], found.rows["d_rand"]
    assert (config["recipe"], config["attack.steps"]) == ("d_rand", 2)
    assert config["advfeat.data_set.seed_0.digest"] == found.data_set("d_rand", 0)
    curve = {entry["step"]["num"]: entry["item"] for entry in records["history"]}
    for seed in (0, 1):
        for role in ("source", "target"):
            losses = dict(enumerate(found.losses("d_rand", seed, role), start=1))
            name = f"seed_{seed}/{role}_loss"
            assert {epoch: items[name] for epoch, items in curve.items() if name in items} == losses
    summary = {name: value for entry in records["summary"] for name, value in entry["update"].items()}
    assert summary["test_accuracy"] == row.test_accuracy
    assert summary["ci95_high"] == row.ci95[1]
    assert summary["robust_accuracies/L-infinity 0.1"] == row.robust_accuracies["L-infinity 0.1"]
    assert summary["measures/sure, by 100 %"] == row.measures["sure, by 100 %"]
    (artifact,) = records["artifact"]
    (content,) = artifact["manifest"]["contents"]
    assert content["path"] == "report.html"
    assert Path(content["local_path"]).read_bytes() == found.store.read(found.report, "report.html")
    (end,) = records["exit"]
    assert end["exit_code"] == 0
    assert "host" not in run, "W&B would be told of the machine"
    assert not {"environment", "stats", "files"} & records.keys(), "and of its packages and programs"

    files[0].with_suffix(".wandb.synced").touch()  # as wandb sync leaves it
    assert told(found, "wandb:somebody/errors")["new"] == 1


def inspected(file: Path) -> dict[str, list[dict[str, Any]]]:
    """Return what W&B's own reader finds in a file, by kind of record."""
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100)
    records: dict[str, list[dict[str, Any]]] = {}
    for line in done.stdout.splitlines():
        entry = json.loads(line)
        records.setdefault(entry["type"], []).append(entry[entry["type"]])
    return records


def test_tensorboard_shows_a_folder_a_row_once(found: Found, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    to = f"tensorboard:{tmp_path / 'shown'}"
    assert told(found, to)["new"] == 2
    assert told(found, to)["new"] == 0
    folder = tmp_path / "shown" / f"small {RUN[:12]}"
    assert sorted(row.name for row in folder.iterdir()) == ["1 clean", "2 d_rand"]
    (folder / "2 d_rand" / "advfeat.json").unlink()  # as if it had broken off
    assert told(found, to)["new"] == 1

    events = EventAccumulator(str(folder / "2 d_rand"))
    events.Reload()
    row = found.rows["d_rand"]

    def scalars(name: str) -> dict[int, float]:
        return {event.step: event.value for event in events.Scalars(name)}

    for seed in (0, 1):
        for role in ("source", "target"):
            losses = dict(enumerate(found.losses("d_rand", seed, role), start=1))
            assert scalars(f"seed_{seed}/{role}_loss") == pytest.approx(losses)
    figures = {
        "test_accuracy": row.test_accuracy,
        "measures/sure, by 100 %": row.measures["sure, by 100 %"],
        "robust_accuracies/L-infinity 0.1": row.robust_accuracies["L-infinity 0.1"],
    }
    for name, value in figures.items():
        assert scalars(name) == pytest.approx({0: value})
    (places,) = events.Tensors("places/text_summary")
    text = places.tensor_proto.string_val[0].decode()
    assert found.data_set("d_rand", 1) in text
    assert found.store.artifact_uri(found.report) in text
    content = events.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    parameters = metadata.parse_session_start_info_plugin_data(content).hparams
    assert parameters["recipe"].string_value == "d_rand"
    assert parameters["attack.steps"].number_value == 2


def test_a_row_of_a_grid_is_named_by_its_axes(found: Found) -> None:
    grid = load_grid("d_rand", [*SMALL, "eps=[0.5,1.0]", "seeds=[0]"])
    wanted = points("d_rand", grid)
    plan = build_grid_plan(wanted)
    report = grid_report(title_of("d_rand", grid), wanted, plan.made_of)
    compute_all(Plan((*plan.stages, report)), found.store)
    run = finished_run(found.store, report.digest)
    assert (run.title, run.run) == (title_of("d_rand", grid), report.digest)
    assert [row.name for row in run.rows] == ["d_rand, eps 0.5", "d_rand, eps 1.0"]
    assert [row.key for row in run.rows] == [f"{report.digest}/0", f"{report.digest}/1"]
    assert [row.parameters["axis.eps"] for row in run.rows] == [0.5, 1.0]
    for number, row in enumerate(run.rows):
        losses = found.store.manifest(plan.made_of[number]["target_model"]).metrics["epoch_losses"]
        assert row.curves["seed_0/target_loss"] == list(enumerate(losses, start=1))
        assert row.places["data_set.seed_0.digest"] == plan.made_of[number]["dataset"]


def test_names_that_mlflow_refuses_are_others_that_it_takes() -> None:
    given = [("measures/a%", 1.0), ("measures/a+", 2.0), ("measures/.", 3.0), ("test_accuracy", 4.0)]
    assert list(_named(given)) == [
        ("measures/a_", 1.0),
        ("measures/a__", 2.0),
        ("measures/_", 3.0),
        ("test_accuracy", 4.0),
    ]


def nobody() -> str:
    return f"http://somebody:secret@127.0.0.1:{free_ports(1)[0]}"


@pytest.mark.parametrize(
    ("named", "variables", "problem"),
    [
        (
            "mlfow:http://127.0.0.1",
            {},
            "'mlfow:http://127.0.0.1' does not name a tool and a place; give mlflow:URI",
        ),
        ("wandb:", {}, "does not name a tool and a place"),
        ("mlflow:NOBODY", {}, r"'mlflow:http://…@127.0.0.1:\d+' cannot be used \(API request .*; start the"),
        ("mlflow:ftp://127.0.0.1", {}, "cannot be used .*; start the server, or name another URI"),
        ("tensorboard:s3://bucket/folder", {}, "does not lie on this machine.*name a folder"),
        ("tensorboard:FILE/folder", {}, "cannot be used .*; name a folder that you may write to"),
        ("wandb:errors", {"WANDB_MODE": "disabled"}, "WANDB_MODE is disabled"),
        ("wandb:errors", {"WANDB_BASE_URL": "SOMEBODY"}, "no key is known: set WANDB_API_KEY"),
        (
            "wandb:errors",
            {"WANDB_BASE_URL": "NOBODY", "WANDB_API_KEY": "0" * 40},
            r"cannot be used \(nobody answers at .*; correct that, or set WANDB_MODE=offline",
        ),
        (
            "wandb:errors",
            {"WANDB_BASE_URL": "SOMEBODY", "WANDB_API_KEY": "0" * 40},
            r"cannot be used \(Failed to authenticate .*; correct that, or set WANDB_MODE=offline",
        ),
        ("wandb:no#project", {"WANDB_MODE": "offline"}, "cannot be used .*no#project"),
    ],
)
def test_what_cannot_be_told_is_refused_before_anything_starts(
    named: str,
    variables: dict[str, str],
    problem: str,
    mlflow_uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import wandb

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))  # with no keys
    (tmp_path / "file").touch()
    places = {"NOBODY": nobody(), "SOMEBODY": mlflow_uri, "FILE": str(tmp_path / "file")}

    def put(text: str) -> str:
        for name, place in places.items():
            text = text.replace(name, place)
        return text

    for name, value in variables.items():
        monkeypatch.setenv(name, put(value))
    wandb.teardown()
    done = CliRunner().invoke(
        app, ["run", "digits", "--track", put(named), "--store", str(tmp_path / "store")]
    )
    wandb.teardown()
    assert isinstance(done.exception, InputError)
    with pytest.raises(InputError, match=problem):
        raise done.exception
    assert "secret" not in str(done.exception)
    assert not (tmp_path / "store").exists()


def test_a_tool_that_is_not_installed_is_told_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("advfeat.tracking.targets.find_spec", lambda _: None)
    monkeypatch.setenv("ADVFEAT_TRACK", "wandb:errors")
    problem = r"is not installed; install advfeat with the extra wandb; in a clone: .* -e '\.\[wandb\]'"
    with pytest.raises(InputError, match=problem):
        advfeat.run("digits")
    with pytest.raises(InputError, match=problem):
        advfeat.reproduce("digits")
    with pytest.raises(InputError, match=problem):
        advfeat.grid("d_rand")


def test_a_run_is_kept_when_it_cannot_be_told_in_the_end(found: Found, tmp_path: Path) -> None:
    folder = tmp_path / "shown"
    target = Target(f"tensorboard:{folder}")
    folder.rmdir()
    folder.touch()
    told_how = rf"the run is kept, repeat with: advfeat track {RUN[:12]} --store .* --to tensorboard:{folder}"
    with pytest.raises(TrackingError, match=told_how):
        target.tell(found.store, RUN)
    result = RunResult(
        run=RUN,
        seconds=1.0,
        rows=tuple(found.rows.values()),
        stages=StageCounts(total=1, computed=1, cached=0),
        report=found.report,
        store=found.store.uri,
    )
    with pytest.warns(UserWarning, match=told_how):
        python_api._tell(target, found.store, result)
    folder.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        python_api._tell(target, found.store, result)
    assert advfeat.track(RUN, f"tensorboard:{folder}", store=found.store.uri).new == 0, "it was told by now"
