"""Taking garbage away: what a kept or a running run uses is never deleted, whatever else befalls it."""

import json
import os
import threading
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from advfeat.errors import InputError, StoreBusyError
from advfeat.flows.command_line.cli import app
from advfeat.flows.walk import recording
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, RunState, keep_plan, keep_record, read_plan, read_records
from advfeat.upkeep import garbage, inventory
from advfeat.upkeep.garbage import Forgotten, Survey, collect, find_garbage, forgotten_runs, survey
from advfeat.upkeep.reachability import read_runs
from advfeat.upkeep.usage import usage
from tests.servers import BUCKET

TWO_DAYS = timedelta(days=2)
NOTHING = Forgotten()


def stage(name: str, *inputs: Stage, kind: Any = "leakage") -> Stage:
    roles = {f"input_{number}": entry.digest for number, entry in enumerate(inputs)}
    return Stage(kind=kind, title=name, parameters={"name": name}, inputs=roles)


def write(store: Store, entry: Stage) -> str:
    def build(folder: Path) -> dict[str, Any]:
        (folder / "payload.bin").write_bytes(entry.title.encode() * 10)
        return {}

    return store.write_stage(entry, build).digest


def keep(store: Store, run: str, state: RunState, report: Stage | None, plan: list[Stage] | None) -> None:
    if plan is not None:
        keep_plan(store, run, plan)
    digest = None if report is None else report.digest
    keep_record(store, RunRecord(run=run, flow="f", title=run, state=state, began="", report=digest))


def days_later(store: Store) -> Survey:
    """Survey the store as it will be in two days if nobody touches it."""
    surveyed = survey(store)
    return replace(surveyed, now=surveyed.now + TWO_DAYS)


def still_running(store: Store, *runs: str) -> None:
    """Let runs give a sign of life in two days."""
    for run in runs:
        later = time.time() + TWO_DAYS.total_seconds()
        os.utime(Path(store.root) / "runs" / f"{run}.json", (later, later))


def found(store: Store, surveyed: Survey, forgotten: Forgotten = NOTHING) -> set[tuple[str, str, str]]:
    runs = read_runs(store, surveyed.inventory.records)
    return {
        (entry.what, entry.name.rpartition("/")[2], entry.why)
        for entry in find_garbage(store, surveyed, runs, forgotten)
    }


@st.composite
def stores(draw: st.DrawFn) -> dict[str, Any]:
    """A DAG of artifacts, runs that use parts of it, and what befell both."""
    parents: list[list[int]] = [[], []]
    for number in range(2, draw(st.integers(3, 8))):
        parents.append(draw(st.lists(st.integers(0, number - 1), min_size=1, max_size=2, unique=True)))
    nodes = st.sampled_from(range(len(parents)))
    runs = st.tuples(
        st.sampled_from(["completed", "failed", "interrupted", "running", "alive"]),
        nodes,
        st.booleans(),  # whether it is to be forgotten
    )
    return {
        "parents": parents,
        "runs": draw(st.lists(runs, min_size=1, max_size=3)),
        "lost_manifests": draw(st.sets(nodes, max_size=1)),
        "damaged_manifests": draw(st.sets(nodes, max_size=2)),
    }


def ancestors(parents: list[list[int]], node: int) -> set[int]:
    return {node}.union(*(ancestors(parents, parent) for parent in parents[node]))


@settings(max_examples=40, deadline=None)
@given(stores())
@example(
    {
        "parents": [[], [], [0], [2]],
        "runs": [("completed", 3, False)],
        "lost_manifests": set(),
        "damaged_manifests": {2},  # no manifest leads to 0 any more
    }
)
def test_what_kept_and_running_runs_use_is_never_deleted(
    tmp_path_factory: pytest.TempPathFactory, drawn: dict[str, Any]
) -> None:
    store = Store(str(tmp_path_factory.mktemp("store")))
    parents = drawn["parents"]
    stages: list[Stage] = []
    for number in range(len(parents)):
        stages.append(stage(f"stage {number}", *(stages[parent] for parent in parents[number])))
        write(store, stages[number])
    folders = [Path(store.artifact_uri(entry.digest)) for entry in stages]
    for number in drawn["lost_manifests"]:
        (folders[number] / "manifest.json").unlink()
    for number in drawn["damaged_manifests"] - drawn["lost_manifests"]:
        (folders[number] / "manifest.json").write_text("{")
    needed: set[int] = set()
    for number, (state, node, forget) in enumerate(drawn["runs"]):
        used = ancestors(parents, node)
        report = stages[node] if state == "completed" else None
        recorded_state: RunState = "running" if state == "alive" else state
        keep(store, f"run-{number}", recorded_state, report, [stages[used_node] for used_node in used])
        if state == "alive":
            still_running(store, f"run-{number}")
        if state == "alive" or not forget:
            needed |= used
    ids = {f"run-{number}" for number, (_, _, forget) in enumerate(drawn["runs"]) if forget}
    published = {n for n in range(len(stages)) if n not in drawn["lost_manifests"]}
    before = {number: files_in(folders[number]) for number in range(len(stages))}

    collect(store, days_later(store), Forgotten(frozenset(ids)))

    for number in needed & published:
        assert files_in(folders[number]) == before[number]
    for number in published - needed:
        assert not folders[number].exists()


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_garbage_of_every_kind_goes_and_nothing_else(store: Store) -> None:
    base, shard = stage("source model"), stage("shard", kind="shard")
    report, other = stage("report", base, kind="report"), stage("another report", kind="report")
    for entry in (base, shard, report, other):
        write(store, entry)
    keep(store, "completed", "completed", report, [base, shard, report])
    unfinished = stage("not computed yet", base)
    keep(store, "interrupted", "interrupted", None, [base, unfinished])
    for name, content in {
        f"artifacts/{base.digest}/payload-0000000000000000.bin": b"of a writer that came second",
        f"artifacts/{unfinished.digest}/payload-0123456789abcdef.bin": b"of a killed writer",
        f"artifacts/{unfinished.digest}/.{'ab' * 16}": b"half a file",
        f".probe-{'cd' * 16}": b"advfeat",
        f"cache/{base.digest}": b"{}",
        f"cache/{shard.digest}": b"{}",
        f"cache/{'e' * 64}": b"{}",
        f"checkpoints/{base.digest}": b"state",
        f"checkpoints/{unfinished.digest}": b"state",
        f"checkpoints/{'f' * 64}": b"state",
        f"checkpoints/{'f' * 64}-workers/run/state": b"state",
        "plans/orphan.json": b"[]",
        "artifacts/README": b"mine",
        "papers/draft.tex": b"mine",
    }.items():
        store.put(f"{store.root}/{name}", content)
    if not store.is_local:
        for name in (f"artifacts/{unfinished.digest}/big.bin", f"checkpoints/{'f' * 64}", "papers/mine.bin"):
            begin_upload(store, name)

    expected = {
        ("shard", shard.digest, "no kept run uses it"),
        ("report", other.digest, "no kept run uses it"),
        ("checkpoint", base.digest, "its training is finished"),
        ("checkpoint", "f" * 64, "no kept run trains it"),
        ("leftover", base.digest, "another writer was first"),
        ("leftover", unfinished.digest, "its writer did not finish"),
        ("leftover", f".{'ab' * 16}", "its writer did not finish"),
        ("leftover", f".probe-{'cd' * 16}", "its writer did not finish"),
        ("cache record", "e" * 64, "its artifact is gone"),
        ("leftover", "orphan", "the plan of no run"),
    }
    if not store.is_local:
        for name in ("big.bin", "f" * 64):
            expected.add(("unfinished upload", name, "its writer did not finish"))
    assert found(store, survey(store)) == set(), "nothing is old enough"
    assert found(store, days_later(store)) == expected
    collect(store, days_later(store), NOTHING)
    assert found(store, days_later(store)) == set()
    left = {str(path).removeprefix(f"{store.root}/") for path in store.fs.find(store.root)}
    assert {name for name in left if "/payload-" not in name} == {
        *(f"artifacts/{entry.digest}/manifest.json" for entry in (base, report)),
        *(f"cache/{base.digest}", f"checkpoints/{unfinished.digest}", "artifacts/README"),
        *("papers/draft.tex", "runs/completed.json", "runs/interrupted.json"),
        *("plans/completed.json", "plans/interrupted.json"),
    }
    assert [store.verify(entry.digest) for entry in (base, report)] == [None, None]
    if store.is_local:
        assert {path.name for path in Path(store.root, "artifacts").iterdir()} == {
            *(base.digest, report.digest, "README")
        }


def begin_upload(store: Store, name: str) -> None:
    bucket, prefix, _ = store.fs.split_path(store.root)
    store.fs.call_s3("create_multipart_upload", Bucket=bucket, Key=f"{prefix}/{name}")


@pytest.fixture
def s3_store(s3: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    return Store(f"s3://{BUCKET}/{tmp_path.name}")


def test_unfinished_uploads_are_found_in_however_many_answers(
    s3_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inventory, "_UPLOADS_AT_ONCE", 3)
    digests = {f"{number:064x}" for number in range(10)}
    for digest in digests:
        begin_upload(s3_store, f"artifacts/{digest}/payload.bin")
    assert {upload.digest for upload in survey(s3_store).inventory.uploads} == digests


def test_the_upload_of_a_checkpoint_stays_while_its_run_goes_on(s3_store: Store) -> None:
    trained = stage("a training")
    keep(s3_store, "alive", "running", None, [trained])
    begin_upload(s3_store, f"checkpoints/{trained.digest}")
    surveyed = days_later(s3_store)
    (run,) = read_runs(s3_store, surveyed.inventory.records)
    assert find_garbage(s3_store, surveyed, [replace(run, written=surveyed.now)], NOTHING) == []
    upload, *_ = find_garbage(s3_store, surveyed, [], NOTHING)
    assert upload.what == "unfinished upload"


def test_a_forgotten_run_goes_with_what_it_alone_uses(local_store: Store) -> None:
    shared, mine, yours = stage("shared"), stage("mine", kind="report"), stage("yours", kind="report")
    mine, yours = (stage(entry.title, shared, kind="report") for entry in (mine, yours))
    for entry in (shared, mine, yours):
        write(local_store, entry)
    keep(local_store, "mine", "completed", mine, [shared, mine])
    keep(local_store, "yours", "completed", yours, [shared, yours])
    found_usage = usage(
        local_store, surveyed := survey(local_store), read_runs(local_store, surveyed.inventory.records)
    )
    sizes = {run.run: (run.bytes, run.own_bytes) for run in found_usage.runs}
    alone = size(local_store, mine)
    assert sizes["mine"] == (alone + size(local_store, shared), alone)
    collect(local_store, days_later(local_store), Forgotten(frozenset({"mine"})))
    assert local_store.digests() == sorted([shared.digest, yours.digest])
    assert [record.run for record in read_records(local_store)] == ["yours"]
    assert read_plan(local_store, "mine") is None


def size(store: Store, entry: Stage) -> int:
    return sum(path.stat().st_size for path in Path(store.artifact_uri(entry.digest)).iterdir())


def test_runs_that_ended_long_ago_are_let_go_but_none_that_goes_on(local_store: Store) -> None:
    for name in ("ended", "killed", "alive"):
        write(local_store, entry := stage(name))
        keep(local_store, name, "failed" if name == "ended" else "running", None, [entry])
    still_running(local_store, "alive")
    surveyed = days_later(local_store)
    assert found(local_store, surveyed, Forgotten(older_than=timedelta(days=3))) == set()
    assert found(local_store, surveyed, Forgotten(older_than=timedelta(hours=47))) == {
        *(("leakage", stage(name).digest, "no kept run uses it") for name in ("ended", "killed")),
        *(("run", name, "forgotten") for name in ("ended", "killed")),
    }
    runs = read_runs(local_store, surveyed.inventory.records)
    assert forgotten_runs(runs, ["end", "k"], surveyed.now) == {"ended", "killed"}
    for name, problem in (("a", "is still running"), ("x", "names no run"), ("", "fits 3 runs")):
        with pytest.raises(InputError, match=problem):
            forgotten_runs(runs, [name], surveyed.now)


def test_nothing_goes_while_a_run_does_not_tell_what_it_uses(local_store: Store) -> None:
    write(local_store, entry := stage("precious"))
    keep(local_store, "old", "failed", None, None)
    local_store.put(f"{local_store.root}/runs/torn.json", b'{"run": "to')
    for forgotten in (Forgotten(), Forgotten(frozenset({"old"}))):
        with pytest.raises(InputError, match="does not say what it uses"):
            collect(local_store, days_later(local_store), forgotten)
    assert local_store.digests() == [entry.digest]
    collect(local_store, days_later(local_store), Forgotten(frozenset({"old", "torn"})))
    assert local_store.digests() == []


def test_a_run_that_begins_after_the_survey_is_heeded(local_store: Store) -> None:
    write(local_store, entry := stage("old but wanted"))
    surveyed = days_later(local_store)
    assert len(found(local_store, surveyed)) == 1
    with recording.recorded(local_store, "f", "a run", [entry], run="aa-1"):
        assert collect(local_store, surveyed, NOTHING) == []
    assert local_store.verify(entry.digest) is None


def test_a_run_gives_signs_of_life_until_it_ends(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_SECONDS_BETWEEN_SIGNS_OF_LIFE", 0.02)
    with recording.recorded(local_store, "f", "a run", [], run="aa-1"):
        (path,) = (Path(local_store.root) / "runs").iterdir()
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 30
        while path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.02)
        (run,) = read_runs(local_store, survey(local_store).inventory.records)
        assert run.is_alive(local_store.now())
    os.utime(path, (0, 0))
    time.sleep(0.1)
    assert path.stat().st_mtime == 0
    assert [record.state for record in read_records(local_store)] == ["completed"]


def test_a_run_that_begins_meanwhile_waits_until_the_garbage_is_gone(
    local_store: Store, capfd: pytest.CaptureFixture[str]
) -> None:
    write(local_store, entry := stage("garbage"))
    seen: list[list[str]] = []

    def run() -> None:
        with recording.recorded(local_store, "f", "a run", [entry], run="aa-1"):
            seen.append(local_store.digests())

    thread = threading.Thread(target=run)

    def gone(_: int) -> None:
        thread.start()
        thread.join(1.5)
        assert thread.is_alive()
        assert seen == []

    collect(local_store, days_later(local_store), NOTHING, gone)
    thread.join(30)
    assert seen == [[]], "it knows that it must compute"
    assert "waiting" in capfd.readouterr().err


def test_one_takes_garbage_away_at_a_time(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "_BATCH", 1)
    entries = [stage(f"garbage {number}") for number in range(3)]
    for entry in entries:
        write(local_store, entry)
    surveyed = days_later(local_store)
    sign = Path(local_store.root) / "collecting"

    def another_begins(_: int) -> None:
        with pytest.raises(StoreBusyError, match="another advfeat gc"):
            collect(local_store, surveyed, NOTHING)
        an_hour_ago = time.time() - 3600
        os.utime(sign, (an_hour_ago, an_hour_ago))  # as if this process had been halted

    with pytest.raises(StoreBusyError, match="was halted"):
        collect(local_store, surveyed, NOTHING, another_begins)
    assert len(local_store.digests()) == 2
    sign.write_bytes(b"of one that was killed")
    os.utime(sign, (0, 0))
    collect(local_store, surveyed, NOTHING)
    assert local_store.digests() == []
    assert not sign.exists()


def test_what_fills_a_store_is_told_without_a_write(local_store: Store) -> None:
    write(local_store, stage("garbage"))
    keep(local_store, "failed", "failed", None, [stage("garbage")])
    folders = [path for path in Path(local_store.root).rglob("*") if path.is_dir()]
    before = {folder: folder.stat().st_mtime_ns for folder in (Path(local_store.root), *folders)}
    assert "leakage" in in_shell(local_store, "du")
    assert {folder: folder.stat().st_mtime_ns for folder in before} == before


def in_shell(store: Store, *arguments: str) -> str:
    done = CliRunner().invoke(app, [*arguments, "--store", store.uri], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_the_commands(local_store: Store) -> None:
    assert "0 bytes in all" in in_shell(local_store, "du")
    assert not Path(local_store.root).exists()
    write(local_store, entry := stage("garbage", kind="shard"))
    four_hours_ago = time.time() - 4 * 3600
    for path in Path(local_store.artifact_uri(entry.digest)).iterdir():
        os.utime(path, (four_hours_ago, four_hours_ago))
    (kind,) = json.loads(in_shell(local_store, "du", "--json"))["kinds"]
    assert (kind["kind"], kind["count"]) == ("shard", 1)
    assert kind["bytes"] == kind["unused_bytes"] == size(local_store, entry)
    assert "shard" in in_shell(local_store, "du")
    assert "nothing was deleted: add --delete" in in_shell(local_store, "gc")
    assert json.loads(in_shell(local_store, "gc", "--older-than", "5h", "--json"))["garbage"] == []
    assert local_store.digests() == [entry.digest]
    (gone,) = json.loads(in_shell(local_store, "gc", "--delete", "--json"))["garbage"]
    assert (gone["what"], gone["name"], gone["bytes"]) == ("shard", entry.digest, kind["bytes"])
    assert local_store.digests() == []
    with pytest.raises(InputError, match="--older-than: 'soon' is not an age"):
        in_shell(local_store, "gc", "--older-than", "soon")
    with pytest.raises(InputError, match="--forget: 'x' names no run"):
        in_shell(local_store, "gc", "--forget", "x")
