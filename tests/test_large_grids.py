"""Grids of hundreds and thousands of stages: what planning them reads, and what a run shows of them."""

import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow, states
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.runtime import flow_run

from advfeat.data.read_once import read_once
from advfeat.errors import InputError, RunCancelledError
from advfeat.flows.command_line.plan_lines import plan_lines
from advfeat.flows.display.artifacts import artifact_key, publish_results
from advfeat.flows.display.terminal import Display
from advfeat.flows.result import RunResult
from advfeat.flows.walk.walk import Walk
from advfeat.planning import (
    Outlook,
    Plan,
    build_grid_plan,
    build_plan,
    grid_report,
    load_experiment,
    load_grid,
    outlook,
    plan_of_grid,
    points,
    with_reasons,
)
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, StageCounts, keep_plan, keep_record
from benchmarks.full_store import keep_artifact
from tests.servers import prefect_client, prefect_settings
from tests.test_grid_report import at

HUNDREDS = [f"eps={[round(0.01 * n, 2) for n in range(1, 61)]}", "seeds=[0,1,2,3,4]", "limit=300"]


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count which files of a store on this machine are read, by their names."""
    counted: Counter[str] = Counter()
    opened: Callable[..., AbstractContextManager[Any]] = Store._opened

    def counting(store: Store, path: str, **options: Any) -> AbstractContextManager[Any]:
        counted[path.rpartition("/")[2]] += 1
        return opened(store, path, **options)

    monkeypatch.setattr(Store, "_opened", counting)
    return counted


def test_only_what_is_there_is_looked_up(local_store: Store, reads: Counter[str]) -> None:
    plan = build_grid_plan(points("d_det", load_grid("d_det", HUNDREDS)))
    assert len(plan.stages) > 1000
    deleted, there = plan.stages[-1], plan.stages[:20]
    local_store.put(f"{local_store.cache}/{deleted.digest}", b"{}")
    for stage in there:
        keep_artifact(local_store, stage)
    entries = {entry.stage.digest: entry for entry in outlook(Plan(plan.stages), local_store)}
    assert reads == {"manifest.json": len(there)}
    assert {digest for digest, entry in entries.items() if entry.state == "cached"} == {
        s.digest for s in there
    }
    assert entries[deleted.digest].why.startswith("deleted: ")


def test_a_grid_is_laid_out_once_a_run() -> None:
    grid = load_grid("d_det", ["eps=[0.5,1.0]"])
    with read_once():
        first, plan = points("d_det", grid), plan_of_grid("d_det", grid)
        assert all(a is b for a, b in zip(first, points("d_det", grid), strict=True))
        assert plan_of_grid("d_det", grid) is plan
        assert plan_of_grid("d_det", load_grid("d_det", ["eps=[0.5]"])) is not plan
    assert plan_of_grid("d_det", grid) is not plan
    assert plan_of_grid("d_det", grid) == plan


def test_each_line_of_a_large_plan_says_why_it_is_new(local_store: Store, reads: Counter[str]) -> None:
    before = build_plan(load_experiment("digits", ["attack.eps=0.5"])).stages
    for stage in before:
        keep_artifact(local_store, stage)
    keep_plan(local_store, "run", before)
    counts = StageCounts(total=len(before), computed=len(before), cached=0)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record = RunRecord(run="run", flow="f", title="t", state="completed", began=now)
    keep_record(local_store, record.model_copy(update={"report": before[-1].digest, "stages": counts}))
    wanted = ["attack.eps=0.6", "data.train_size=900", f"seeds={list(range(100))}"]
    plan = build_plan(load_experiment("digits", wanted))
    entries = outlook(plan, local_store)
    reads.clear()
    told = with_reasons(entries, local_store)
    assert reads == {"run.json": 2, "manifest.json": 1}, "its record, its plan, its report"
    assert sum(entry.why.startswith("new: ") for entry in told) == 1000 < len(told)
    assert all(line.why.startswith("new: ") for line in plan_lines(told))


def test_more_points_than_a_report_holds_are_refused() -> None:
    (point,) = points("clean", load_grid("clean", ["seeds=[0]"]))
    made_of = dict.fromkeys(("images", "dataset", "target_model", "evaluation"), "0" * 64)
    with pytest.raises(InputError, match=r"grid: '50,000 experiments' are more than one report can hold"):
        grid_report("a grid", [point] * 50_000, [made_of] * 50_000)


def test_s3_is_listed_page_by_page(store: Store) -> None:
    names = [f"{number:04}" for number in range(1005)]
    folder = f"{store.root}/runs/many"
    if store.is_local:
        Path(folder).mkdir(parents=True)
    store.fs.pipe({f"{folder}/{name}": b"." for name in names})
    assert [info["name"] for info in store.place.listed(folder)] == [f"{folder}/{name}" for name in names]
    assert [info["size"] for info in store.place.listed(folder, "100")] == [1] * 5
    assert store.place.names("runs/many") == {*names}


@pytest.mark.parametrize("most", [5, 20])
def test_too_many_cached_stages_are_counted(
    local_store: Store,
    prefect_api: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    most: int,
) -> None:
    monkeypatch.setattr("advfeat.flows.walk.walk._MOST_CACHED_SHOWN", most)
    images, *others = build_plan(load_experiment("digits", ["data.train_size=64"])).stages
    entries = [Outlook(images, "compute", "new"), *(_stored(stage, local_store) for stage in others[:9])]

    @flow
    def walking() -> str:
        with Display(entries) as display:
            walk = Walk(local_store, display)
            walk.run(entries)
        assert walk.in_store == {entry.stage.digest for entry in entries}
        assert walk.computed == 1
        return str(flow_run.get_id())

    with prefect_settings(prefect_api):
        run = walking()
    with prefect_client(prefect_api) as client:
        only = FlowRunFilter(id=FlowRunFilterId(any_=[run]))
        shown = client.read_task_runs(flow_run_filter=only)
    assert len(shown) == (1 if most < 9 else 10)
    assert ("9 stages are in the store" in capfd.readouterr().err) == (most < 9)


def test_a_cancelled_walk_stops_though_a_stage_is_always_at_hand(
    local_store: Store, prefect_api: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("advfeat.flows.walk.walk._SECONDS_BETWEEN_INQUIRIES", 0.2)
    stages = build_plan(load_experiment("digits", ["data.train_size=64"])).stages
    entries = [_stored(stage, local_store) for stage in stages]
    begun: list[UUID] = []

    class Cancelling(Display):
        def finished(self, stage: Stage, how: str) -> None:
            super().finished(stage, how)
            begun.append(UUID(str(flow_run.get_id())))
            if len(begun) == 1:
                with prefect_client(prefect_api) as client:
                    client.set_flow_run_state(begun[0], states.Cancelling(), force=True)

    @flow
    def walking() -> None:
        with Cancelling(entries) as display:
            Walk(local_store, display).run(entries)

    with prefect_settings(prefect_api), pytest.raises(RunCancelledError):
        walking()
    assert 1 <= len(begun) < len(entries)


def _stored(stage: Stage, store: Store) -> Outlook:
    keep_artifact(store, stage)
    return Outlook(stage, "cached", "there")


def test_no_artifact_of_prefect_is_above_a_megabyte(local_store: Store, prefect_api: dict[str, str]) -> None:
    made_of = {f"{number}/dataset": f"{number:064x}" for number in range(5000)}
    stage = Stage(kind="grid_report", title="report", parameters={"title": "t"}, inputs=made_of)
    local_store.write_stage(stage, _without_pictures)
    rows = [at({"eps": number / 100, "seed": seed}) for number in range(1000) for seed in range(5)]
    counts = StageCounts(total=65_000, computed=65_000, cached=0)
    result = RunResult(
        run="r", seconds=1.0, rows=tuple(rows), stages=counts, report=stage.digest, store=local_store.uri
    )

    @flow
    def publishing() -> None:
        publish_results("large", "a large grid", result, local_store)

    with prefect_settings(prefect_api), prefect_client(prefect_api) as client:
        publishing()
        found = {each.key: each for each in client.read_artifacts()}
    results, report = (found[artifact_key("large", what)] for what in ("results", "report"))
    assert "first 1,000 of 5,000" in str(results.description)
    assert len(json.loads(str(results.data))) == 1000
    assert all(len(str(each.data)) < 1_000_000 for each in (results, report))


def _without_pictures(folder: Path) -> dict[str, Any]:
    for name, content in (("pictures.json", "{}"), ("report.html", "<p>")):
        (folder / name).write_text(content, encoding="utf-8")
    return {}
