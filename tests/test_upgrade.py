"""What the release before left goes on with this one: its store, Prefect database, deployments and runs.

``tests/databases/before.sql.gz`` is a Prefect database, without its events, that the release of 2026-11-27
02:48 left: ``advfeat deploy lab``, a schedule of its regression check that is off, and a run of the main job,
with the settings of ``test_stores_of_before.py``, that no worker had taken yet. Beside that, two deployments
named ``older``, of the release of 2026-11-26 20:26, whose flows were other modules, and a run of one of them.
"""

import gzip
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prefect.client.schemas.objects import FlowRun

from advfeat.cluster.embedded import prefect_server
from advfeat.cluster.private_files import private_folder
from advfeat.storage import STAGE_VERSIONS, StageKind, Store
from advfeat.storage.runs import read_records
from tests.command import Command
from tests.servers import prefect_client
from tests.test_deploy import prefect
from tests.test_stores_of_before import WRITTEN

ROOT = Path(__file__).parent.parent
DATABASE = Path(__file__).parent / "databases" / "before.sql.gz"


VERSIONS_BEFORE: dict[StageKind, int] = {
    **{"images": 2, "source_model": 3, "dataset": 4, "shard": 3, "target_model": 3, "evaluation": 4},
    **{"leakage": 3, "two_dimensional": 2, "report": 7, "grid_report": 7},
}
"""Of the release before. Whoever makes a release writes the current ones here."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    shutil.copytree(WRITTEN, tmp_path / "store")
    return Store(str(tmp_path / "store"))


@pytest.fixture
def server(tmp_path: Path, store: Store) -> Iterator[dict[str, str]]:
    """A Prefect server of this release on the database of the one before; its runs name this store."""
    folder = private_folder(private_folder(tmp_path / "home" / "prefect") / "0")
    text = gzip.decompress(DATABASE.read_bytes()).decode().replace("s3://lab/store", store.uri)
    with closing(sqlite3.connect(folder / "prefect.db")) as database:
        database.executescript(text)
    with prefect_server(tmp_path / "home") as started:
        started.wait_until_ready()
        yield started.variables


def test_the_changelog_says_what_is_computed_again() -> None:
    unreleased = (ROOT / "CHANGELOG.md").read_text().partition("\n## Unreleased\n")[2].partition("\n## ")[0]
    told = re.findall(r"^\| `(\w+)` \| (\d+) \| (\d+) \|", unreleased, re.MULTILINE)
    changed = [
        (stage, str(before), str(STAGE_VERSIONS[stage]))
        for stage, before in VERSIONS_BEFORE.items()
        if STAGE_VERSIONS[stage] != before
    ]
    assert sorted(told) == sorted(changed)


@pytest.mark.faults  # it takes a minute
def test_runs_that_waited_go_on(server: dict[str, str], store: Store, tmp_path: Path) -> None:
    told = Command(tmp_path, server)("deploy", "lab", "--store", store.uri)
    assert told.returncode == 0, told.stderr
    mended, doubled = told.stderr.splitlines()
    assert mended.startswith("advfeat: clean/older, learning-from-errors/older: made by an earlier version")
    for name in ("clean/lab", "learning-from-errors/lab", "prefect deployment delete NAME"):
        assert name in doubled
    prefect(tmp_path, server, "worker", "start", "--pool", "lab", "--run-once")
    with prefect_client(server) as client:
        runs: dict[str, FlowRun] = {run.name: run for run in client.read_flow_runs()}
        deployments = client.read_deployments()
    records = {record.run: record for record in read_records(store)}
    for name, flow, computed in (
        ("scheduled before the upgrade", "learning-from-errors", 1),  # the report
        ("of an older release", "clean", 2),  # an evaluation without agreement, and the report
    ):
        run = runs[name]
        assert run.state is not None
        assert run.state.is_completed(), (name, run.state.message)
        record = records[str(run.id)]
        assert (record.flow, record.state) == (flow, "completed")
        assert record.stages is not None
        assert record.stages.computed == computed
    (regression,) = [
        each for each in deployments if each.name == "lab" and (each.entrypoint or "").endswith("regression")
    ]
    assert [schedule.active for schedule in regression.schedules] == [False]
