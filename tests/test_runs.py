"""What a store tells of the runs that used it, and how they compare."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prefect import flow
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from scipy import stats
from typer.testing import CliRunner

from advfeat.catalogue.run_descriptions import described_runs
from advfeat.cluster.board import StageProgress
from advfeat.cluster.embedded import HOME
from advfeat.errors import InputError, RunCancelledError
from advfeat.flows.command_line.cli import app
from advfeat.flows.display.progress_bars import LongStages
from advfeat.flows.walk.recording import recorded
from advfeat.planning import (
    build_grid_plan,
    build_plan,
    changed_settings,
    grid_report,
    load_experiment,
    load_grid,
    points,
)
from advfeat.report.comparison import compare
from advfeat.storage import Stage, Store
from advfeat.storage.runs import (
    RunRecord,
    StageCounts,
    keep_record,
    read_plan,
    read_records,
    record_path,
    report_named,
)
from tests.command import Command
from tests.inline import compute, compute_all
from tests.servers import prefect_client, prefect_settings

QUICK = ("data.train_size=256", "data.test_size=200", "target.epochs=2", "source.epochs=2", "attack.steps=3")


def record(run: str, **fields: Any) -> RunRecord:
    return RunRecord(
        **{"run": run, "flow": "d_det", "title": "a grid", "state": "running", "began": "2026"} | fields
    )


def test_records_survive_and_what_is_none_is_left_out(store: Store) -> None:
    assert read_records(store) == []
    counts = StageCounts(total=3, computed=1, cached=2)
    first, second = record("aa-1", began="2026-01"), record("ab-2", began="2026-02", stages=counts)
    for entry in (second, first):
        keep_record(store, entry)
    store.put(f"{store.root}/runs/torn.json", b'{"run": "x')
    assert read_records(store) == [first, second]
    ended = second.model_copy(update={"state": "completed", "seconds": 2.5})
    keep_record(store, ended)
    assert read_records(store) == [first, ended]


def test_brackets_in_a_title_are_shown_as_they_are(local_store: Store) -> None:
    keep_record(local_store, record("aa-1", title="eps [0.5] [/b]"))
    for command in ("runs", "du"):
        done = CliRunner().invoke(app, [command, "--store", local_store.uri])
        assert done.exit_code == 0, done.exception
        assert "eps [0.5] [/b]" in done.output


def test_the_latest_runs_alone_are_read_and_that_is_said(local_store: Store) -> None:
    for number in range(5):
        record = RunRecord(
            run=f"run-{number}",
            flow="d_det",
            title="a",
            state="failed",
            began=f"2026-01-0{number + 1}T00:00:00",
        )
        keep_record(local_store, record)
        os.utime(record_path(local_store, record.run), (number, number))
    shown = CliRunner().invoke(app, ["runs", "--json", "--last", "2", "--store", local_store.uri])
    assert [entry["run"] for entry in json.loads(shown.stdout)] == ["run-3", "run-4"]
    assert shown.stderr == "advfeat: the latest 2; a larger --last shows older ones\n"
    shown = CliRunner().invoke(app, ["runs", "--json", "--last", "5", "--store", local_store.uri])
    assert (len(json.loads(shown.stdout)), shown.stderr) == (5, "")


def test_names_that_lead_to_no_report_are_refused_in_a_line(local_store: Store) -> None:
    for entry in (record("aa-1"), record("ab-2", state="failed")):
        keep_record(local_store, entry)
    for name, problem in (
        ("a", "fits 2 runs and 0 artifacts"),
        ("ab", "has no report, it is failed"),
        ("c", "names no run"),
    ):
        with pytest.raises(InputError) as refused:
            report_named(local_store, name)
        assert problem in str(refused.value)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("end", "state"),
    [
        (None, "completed"),
        (RunCancelledError(), "cancelled"),
        (ValueError(), "failed"),
        (KeyboardInterrupt(), "interrupted"),
    ],
    ids=lambda value: str(value),
)
def test_a_record_says_how_a_run_ended(local_store: Store, end: BaseException | None, state: str) -> None:
    first, last = (Stage(kind="report", title=title, parameters={"title": title}) for title in "ab")
    try:
        with recorded(local_store, "d_det", "a grid", [first], run="aa-1", note="for the paper") as recording:
            (begun,) = read_records(local_store)
            assert begun.state == "running"
            assert read_plan(local_store, begun.run) == (first,)
            recording.needs([last])
            recording.results("f" * 64, total=4, computed=1)
            if end is not None:
                raise end
    except (RunCancelledError, ValueError, KeyboardInterrupt):
        assert end is not None
    (ended,) = read_records(local_store)
    assert (ended.state, ended.report, ended.note) == (state, "f" * 64, "for the paper")
    assert ended.stages == StageCounts(total=4, computed=1, cached=3)
    assert ended.seconds is not None
    assert read_plan(local_store, ended.run) == (first, last)


def report_of_grid(store: Store, *assignments: str) -> Stage:
    wanted = points("d_det", load_grid("d_det", [*assignments, *QUICK]))
    plan = build_grid_plan(wanted)
    report = grid_report("a grid", wanted, plan.made_of)
    for stage in (*plan.stages, report):
        compute(stage, store)
    return report


@pytest.mark.slow
def test_two_grids_side_by_side(local_store: Store) -> None:
    """They share eps 1.5; the second one's target models are smoothed."""
    first = report_of_grid(local_store, "eps=[0.5,1.5]", "seeds=[0,1]")
    second = report_of_grid(local_store, "eps=[1.5]", "seeds=[0,1]", "target.label_smoothing=0.2")
    found = compare(local_store, first.digest, second.digest)
    assert {change.field: change.values for change in found.changes} == {
        "target.label_smoothing": (("0.0",), ("0.2",)),
        "attack.eps": (("0.5", "1.5"), ("1.5",)),
    }
    alone, both = found.places
    (other,) = alone.others
    assert (alone.place, other.side, other.difference) == ({"eps": 0.5}, None, None)
    assert both.place == {"eps": 1.5}
    (other,) = both.others
    assert both.first is not None
    assert other.side is not None
    assert other.difference is not None
    pairs = [(both.first.accuracies[seed], other.side.accuracies[seed]) for seed in (0, 1)]
    differences = [after - before for before, after in pairs]
    assert other.difference == pytest.approx(np.mean(differences))
    half = stats.t.ppf(0.975, 1) * np.std(differences, ddof=1) / 2**0.5
    assert other.ci95 == pytest.approx((other.difference - half, other.difference + half))

    three = compare(local_store, first.digest, second.digest, first.digest)
    assert [[each.difference for each in place.others] for place in three.places] == [
        [None, 0.0],
        [other.difference, 0.0],
    ]
    assert [change.values[0] == change.values[2] != change.values[1] for change in three.changes] == [
        True
    ] * 2

    same = compare(local_store, first.digest, first.digest)
    assert same.changes == ()
    assert [place.others[0].difference for place in same.places] == [0, 0]


def test_an_experiment_beside_a_grid(local_store: Store) -> None:
    """A run of several recipes stands at the place that its own eps gives it."""
    experiment = load_experiment("digits", [*QUICK, "seeds=[3]", "recipes=[clean,d_det]", "attack.eps=0.5"])
    plan = build_plan(experiment)
    compute_all(plan, local_store)
    grid = report_of_grid(local_store, "eps=[0.5,1.5]", "seeds=[3]")
    found = {
        (entry.recipe, entry.place["eps"]): entry
        for entry in compare(local_store, plan.report.digest, grid.digest).places
    }
    assert found.keys() == {("clean", 0.5), ("d_det", 0.5), ("d_det", 1.5)}
    (same,), (missing,) = found["d_det", 0.5].others, found["clean", 0.5].others
    assert (same.difference, same.ci95) == (0, None)
    assert missing.side is None


def test_a_run_with_nothing_to_compute_starts_no_server_and_is_recorded(
    local_store: Store, tmp_path: Path
) -> None:
    small = ("data.train_size=64", "data.test_size=40", "recipes=[clean]", "seeds=[0]", "target.epochs=1")
    compute_all(build_plan(load_experiment("digits", small)), local_store)
    command = Command(tmp_path)
    words = ["run", *(word for each in small for word in ("--set", each)), "--store", local_store.uri]
    done = command(*words, "--note", "for the [paper]")
    assert done.returncode == 0, done.stderr
    assert done.stderr == "digits: 5 stages, all in the store\n"
    assert "5 stages, 0 computed, 5 cached" in done.stdout
    assert command(*words, "--quiet").stderr == ""
    assert not (tmp_path / HOME / "prefect").exists()
    noted, other = read_records(local_store)
    assert (noted.note, noted.state, other.note) == ("for the [paper]", "completed", "")
    assert noted.changed == "data.train_size=64, data.test_size=40, target.epochs=1, seeds=[0]"
    assert noted.report == other.report
    refused = command(*words, "--note", "x" * 501)
    assert refused.returncode == 2
    assert "note: 'xxxxxxxxxxxxxxxxxxxx…' is 501 characters long, 500 are kept" in refused.stderr


@pytest.mark.parametrize(
    ("preset", "assignments", "changed"),
    [
        ("digits", [], ""),
        ("digits", ["name=mine", "recipes=[clean]"], ""),
        ("cifar10", ["name=mine", "attack.eps=0.25"], "attack.eps=0.25"),
        ("mnist", ["source.epochs=3", "seeds=[4]"], "source.epochs=3, seeds=[4]"),
    ],
)
def test_what_was_changed_is_told_against_the_nearest_preset(
    preset: str, assignments: list[str], changed: str
) -> None:
    assert changed_settings(load_experiment(preset, assignments)) == changed


@given(st.integers(0, 100), st.integers(1, 100))
def test_a_stages_time_left_follows_its_rate(done: int, seconds: int) -> None:
    progress = StageProgress(done=done, total=100, seconds=seconds)
    assert progress.seconds_left == (None if done == 0 else pytest.approx((100 - done) * seconds / done))


def test_a_stage_that_lasts_has_a_bar_in_prefect(prefect_api: dict[str, str]) -> None:
    stage = Stage(kind="target_model", title="target model d_det, seed 7, eps 0.5", parameters={})

    @flow
    def watched() -> None:
        bars = LongStages()
        now = time.monotonic()
        while time.monotonic() < now + 2.1:
            time.sleep(0.1)
        bars.running({stage.title: StageProgress(30, 120, 60.0), "short": StageProgress(1, 2, 1.0)})
        bars.finished(stage, "computed")

    with prefect_settings(prefect_api), prefect_client(prefect_api) as client:
        watched()
        key = ArtifactFilterKey(like_="target-model-d-det-seed-7-eps-0-5-progress")
        (bar,) = client.read_artifacts(artifact_filter=ArtifactFilter(key=key))
        assert (bar.type, bar.data) == ("progress", 100.0)
        assert not client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(like_="short%"))
        )


@pytest.mark.parametrize("changed", [{"report": "../../elsewhere"}, {"report": "0" * 63}])
def test_a_record_cannot_lead_out_of_the_store(local_store: Store, changed: dict[str, str]) -> None:
    record = RunRecord(run="a", flow="f", title="t", state="completed", began="", report="0" * 64)
    local_store.put(record_path(local_store, "a"), json.dumps(record.model_dump() | changed).encode())
    assert read_records(local_store) == []


def test_a_run_that_failed_is_told_from_others_by_its_plan(local_store: Store) -> None:
    plan = build_plan(load_experiment("digits", [*QUICK, "seeds=[3]", "recipes=[clean, d_det]"]))
    with (
        pytest.raises(InputError),
        recorded(local_store, "learning-from-errors", "digits", plan.stages, run="aa-1"),
    ):
        raise InputError("field", 1, "is wrong", "give another")
    (told,) = described_runs(local_store)
    assert (told.record.state, told.recipe, told.seeds) == ("failed", "clean, d_det", "3")
