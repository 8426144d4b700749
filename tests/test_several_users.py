"""Two people on one store and one Prefect server: what each may do, whose runs are whose, what gc leaves."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import s3fs
from typer.testing import CliRunner

from advfeat.catalogue.run_descriptions import described_runs
from advfeat.errors import InputError
from advfeat.flows.command_line.cli import app
from advfeat.flows.whose import USER
from advfeat.storage import Stage, Store
from advfeat.storage.runs import RunRecord, keep_plan, keep_record, read_records
from advfeat.upkeep import garbage
from advfeat.upkeep.garbage import Forgotten, find_garbage, survey
from advfeat.upkeep.reachability import read_runs
from tests.servers import BUCKET, OF_READER, ObjectStore, s3_client
from tests.test_stores_of_before import SETTINGS, WRITTEN

AS_BEFORE = [word for setting in SETTINGS for word in ("--set", setting)]


@pytest.fixture(scope="module")
def stored(s3_server: ObjectStore) -> Iterator[str]:
    """A store on S3 that one user wrote, with a finished run in it."""
    fs = s3_client(s3_server.variables)
    fs.put(f"{WRITTEN}/", f"{BUCKET}/of-ann/", recursive=True)
    fs.mkdir(OF_READER)
    yield f"s3://{BUCKET}/of-ann"
    fs.rm(OF_READER, recursive=True)


def become(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], user: str) -> None:
    for name, value in (variables | {USER: user}).items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # it would answer with the keys of the one before


def objects(server: ObjectStore) -> dict[str, Any]:
    found = s3_client(server.variables).find(f"{BUCKET}/of-ann", detail=True)
    return {name: (entry["ETag"], entry["LastModified"]) for name, entry in found.items()}


def test_who_may_read_alone_reads_everything_and_changes_nothing(
    s3_server: ObjectStore, stored: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = objects(s3_server)
    become(monkeypatch, s3_server.reader, "bob")
    monkeypatch.setenv("ADVFEAT_STORE", stored)
    monkeypatch.chdir(tmp_path)
    (run,) = described_runs(Store(stored))
    name = run.record.run[:8]
    listed = json.loads(CliRunner().invoke(app, ["ls", "--stage", "dataset", "--json"]).stdout)
    (data_set,) = [entry["digest"] for entry in listed if entry["recipe"] == "d_det"]
    for command in (
        *(["plan", *AS_BEFORE], ["runs"], ["report", name], ["compare", name, name], ["du"]),
        *(["show", data_set], ["card", data_set], ["lineage", data_set], ["verify"]),
        ["export", data_set, f"s3://{OF_READER}/d_det", "--to", "parquet"],
        ["export", data_set, str(tmp_path / "d_det"), "--to", "folder"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, (command, done.output, done.exception)
    assert s3_client(s3_server.reader).find(f"{OF_READER}/d_det")
    for command in (
        *(["run", *AS_BEFORE], ["run"], ["grid", "d_det", "--set", "eps=[1.0]"]),
        *(["gc"], ["gc", "--forget", name, "--delete"]),
    ):
        began = time.monotonic()
        refused = CliRunner().invoke(app, command).exception
        assert isinstance(refused, InputError), (command, refused)
        assert "cannot be written (Access Denied.); to read it is enough for plan, runs" in str(refused)
        assert "\n" not in str(refused)
        assert time.monotonic() - began < 10
    fs, path = s3_client(s3_server.reader), next(iter(before))
    with pytest.raises(PermissionError):
        fs.rm_file(path)
    with pytest.raises(PermissionError):
        fs.pipe_file(path, b"")
    assert objects(s3_server) == before


ANOTHER_HOST = """
import sys
from advfeat.flows.walk.recording import recorded
from advfeat.planning import build_plan, load_experiment, outlook
from advfeat.stages.inline import compute
from advfeat.storage import Store

store, plan = Store(sys.argv[1]), build_plan(load_experiment("digits", sys.argv[2:]))
with recorded(store, "f", "a run", plan.stages, run="of-ann", user="ann") as recording:
    for entry in outlook(plan, store):
        compute(entry.stage, store)
    recording.results(plan.report.digest, total=len(plan.stages), computed=len(plan.stages))
    recording.record = recording.ended("completed")
"""


def test_what_another_host_computes_with_stays_whoever_collects_garbage(
    s3_server: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here an artifact is garbage as soon as no run uses it, however young."""
    monkeypatch.setattr(garbage, "YOUNGEST_ARTIFACT", timedelta(0))
    become(monkeypatch, s3_server.variables, "bob")
    store = Store(f"s3://{BUCKET}/of-both")
    left_over = Stage(kind="leakage", title="of nobody", parameters={"name": "of nobody"})
    store.write_stage(left_over, lambda _: {})
    settings = [*SETTINGS, "recipes=[clean,d_det]", "shards=2", "source.epochs=20"]
    command = [sys.executable, "-c", ANOTHER_HOST, store.uri, *settings]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deleted: list[str] = []
    most = 0
    while process.poll() is None:
        done = CliRunner().invoke(
            app, ["gc", "--json", "--store", store.uri, "--delete"], catch_exceptions=False
        )
        deleted += [f"{entry['what']} {entry['name']}" for entry in json.loads(done.stdout)["garbage"]]
        most = max(most, len(store.digests()))
        time.sleep(0.5)
    assert process.returncode == 0, process.stderr and process.stderr.read()
    assert deleted[0] == f"leakage {left_over.digest}"
    assert {entry.partition(" ")[0] for entry in deleted[1:]} <= {"shard"}, "of a run that is completed"
    assert most > 5, "it never saw the run at work"
    (record,) = read_records(store)
    assert (record.state, record.user) == ("completed", "ann")
    assert {digest: store.verify(digest) for digest in store.digests()} == dict.fromkeys(store.digests())
    assert store.find(record.report or "") is not None


def keep(store: Store, run: str, user: str, *plan: Stage, state: Any = "failed") -> None:
    keep_plan(store, run, plan)
    keep_record(store, RunRecord(run=run, flow="f", title=run, state=state, user=user, began=""))


def test_nobody_drops_the_runs_of_another(local_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(garbage, "YOUNGEST_ARTIFACT", timedelta(0))
    monkeypatch.setenv(USER, "bob")
    for user in ("ann", "bob", ""):
        stage = Stage(kind="leakage", title=user, parameters={"of": user})
        local_store.write_stage(stage, lambda _: {})
        keep(local_store, f"run-of-{user or 'before'}", user, stage)

    def gc(*words: str) -> Any:
        return CliRunner().invoke(app, ["gc", "--store", local_store.uri, "--delete", *words])

    refused = gc("--forget", "run-of-ann").exception
    assert "is a run of ann; ask, then add --everyones" in str(refused)
    assert gc("--older-than", "0m").exit_code == 0
    assert [record.user for record in read_records(local_store)] == ["ann"]
    assert len(local_store.digests()) == 1
    assert gc("--forget", "run-of-ann", "--everyones").exit_code == 0
    assert (read_records(local_store), local_store.digests()) == ([], [])


def test_a_model_of_another_that_a_run_starts_from_stays(local_store: Store) -> None:
    model = Stage(kind="weights", title="of ann", parameters={"of": "ann"})
    local_store.write_stage(model, lambda _: {"network": "cnn", "file": "a.pt"})
    mine = Stage(kind="pretrained_model", title="of bob", parameters={}, inputs={"weights": model.digest})
    keep(local_store, "run-of-bob", "bob", mine, state="running")
    surveyed = survey(local_store)
    later = replace(surveyed, now=surveyed.now + timedelta(days=2))
    assert (
        find_garbage(local_store, later, read_runs(local_store, later.inventory.records), Forgotten()) == []
    )


def test_runs_tell_whose_they_are_where_that_is_known(local_store: Store) -> None:
    keep(local_store, "aa-1", "")
    shown = CliRunner().invoke(app, ["runs", "--store", local_store.uri]).output
    assert "user" not in shown
    keep(local_store, "ab-2", "ann")
    shown = CliRunner().invoke(app, ["runs", "--store", local_store.uri]).output
    assert "user" in shown
    assert "ann" in shown
