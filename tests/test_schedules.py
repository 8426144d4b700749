"""Schedules are waited for: three firings, firings that overlap, a worker that was away, a pool with a limit.

A worker that comes back catches up: by ``ENQUEUE`` with every firing, by ``CANCEL_NEW`` with one.

A real Prefect server, a worker and a Ray node; the deployments are one of ``deployments/prefect.yaml`` with a
schedule of seconds.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import SCHEDULE_TYPES, RRuleSchedule

from advfeat.storage import Store
from advfeat.storage.runs import read_records
from tests.servers import Server, prefect_client, prefect_service, ray_nodes
from tests.test_deploy import prefect

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

STRATEGIES = {"waits": "ENQUEUE", "drops": "CANCEL_NEW", "catches-up": "ENQUEUE"}
INTERVALS = {"waits": 60, "drops": 15}  # seconds; runs that wait, and ask again and again, keep a server busy
SEEDS = {"catches-up": [1]}  # else 0
FIRINGS, SECONDS_BETWEEN_FIRINGS = 4, 10  # of "catches-up", while the worker is away
SETTINGS = ["data.train_size=100", "data.test_size=40", "target.width=4", "target.epochs=1"]
SOON = {
    "PREFECT_SERVER_SERVICES_SCHEDULER_LOOP_SECONDS": "5",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MIN_RUNS": "2",
    "PREFECT_SERVER_SERVICES_SCHEDULER_MAX_RUNS": "3",  # ahead of time
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "1",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_AFTER_SECONDS": "2",
    "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
}
"""Sooner than by default, and no more than the database of a busy machine takes."""


@dataclass
class Lab:
    """A work pool whose deployments enqueue what overlaps, but ``drops``, which cancels it."""

    variables: dict[str, str]
    worker: Server
    store: Store
    client: SyncPrefectClient

    def deployment(self, name: str) -> DeploymentResponse:
        return self.client.read_deployment_by_name(f"clean/{name}")

    def runs(self, name: str) -> list[FlowRun]:
        """Return the runs of a deployment that are due, the first at the front."""
        of = DeploymentFilter(id=DeploymentFilterId(any_=[self.deployment(name).id]))
        found = self.client.read_flow_runs(deployment_filter=of, limit=200)
        now = time.time()
        due = [run for run in found if run.expected_start_time and run.expected_start_time.timestamp() < now]
        return sorted(due, key=lambda run: str(run.expected_start_time))

    def ended(self, name: str, state: str) -> list[FlowRun]:
        return [run for run in self.runs(name) if run.state is not None and run.state.name == state]

    def state(self, run: UUID) -> str:
        found = self.client.read_flow_run(run).state_type
        return "" if found is None else found.value

    def counts(self, runs: list[FlowRun]) -> list[tuple[int, int]]:
        """Return how many stages each run computed, and how many it found."""
        records = {record.run: record for record in read_records(self.store)}
        found = [records[str(run.id)].stages for run in runs]
        return [(stages.computed, stages.cached) for stages in found if stages is not None]

    def running(self, run: UUID) -> list[tuple[datetime, datetime]]:
        """Return from when to when a run that ended was running, as the history of its states has it."""
        states = sorted(self.client.read_flow_run_states(run), key=lambda state: state.timestamp)
        return [(at.timestamp, after.timestamp) for at, after in pairwise(states) if at.is_running()]

    def overlap(self, runs: list[FlowRun]) -> bool:
        """Tell whether two of them were running at one moment."""
        times = sorted(span for run in runs for span in self.running(run.id))
        assert len(times) >= len(runs)
        return any(first[1] > second[0] for first, second in pairwise(times))

    def pause(self, name: str) -> None:
        """Stop firing, and wait until nothing runs."""
        self.client.pause_deployment(self.deployment(name).id)
        wait_until(lambda: not self.ended(name, "Running") + self.ended(name, "Pending"))


def wait_until(condition: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it lasts too long"
        time.sleep(0.5)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("lab")
    service = prefect_service(folder / "prefect")
    service.server.environment = {**service.server.environment, **SOON}
    (folder / "prefect" / "prefect.db").write_bytes(prefect_database.read_bytes())
    nodes, store = ray_nodes(folder / "ray", 1, []), Store(str(folder / "store"))
    variables = service.variables | nodes.variables | {"ADVFEAT_STORE": store.uri}
    command = ("prefect", "worker", "start", "--pool", "lab", "--type", "process", "--limit", "2")
    log = folder / "worker.log"
    worker = Server(
        [sys.executable, "-m", *command],
        log,
        lambda: "started" in log.read_text(),
        variables | {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_HOME": str(folder / "worker")},
    )
    with ExitStack() as stack:
        for context in (service.server.running(), nodes.running()):
            stack.enter_context(context)
        prefect(folder, variables, "work-pool", "create", "lab", "--type", "process")
        (folder / "prefect.yaml").write_text(yaml.safe_dump(deployed()))
        prefect(folder, variables, "deploy", "--prefect-file", "prefect.yaml", "--all")
        stack.callback(worker.kill)
        with prefect_client(variables) as client:
            yield Lab(variables, worker, store, client)


def deployed() -> dict[str, Any]:
    """Return ``deployments/prefect.yaml`` with the deployments of the lab alone."""
    content = yaml.safe_load(Path("deployments/prefect.yaml").read_text())
    (clean,) = [each for each in content["deployments"] if each["name"] == "clean-process"]
    return {"name": "lab", "pull": [], "deployments": [deployment(clean, name) for name in STRATEGIES]}


def deployment(clean: dict[str, Any], name: str) -> dict[str, Any]:
    grid = {"seeds": SEEDS.get(name, [0]), "settings": SETTINGS}
    return {
        **clean,
        "name": name,
        "parameters": clean["parameters"] | {"grid": grid},
        "work_pool": {"name": "lab"},
        "paused": name == "drops",
        "concurrency_limit": {"limit": 1, "collision_strategy": STRATEGIES[name]},
        "schedules": [{"interval": INTERVALS[name], "active": True}] if name in INTERVALS else [],
    }


def test_a_schedule_fires_three_times_and_two_runs_are_cached(lab: Lab) -> None:
    lab.worker.start()
    wait_until(lambda: len(lab.ended("waits", "Completed")) >= 3)
    lab.pause("waits")
    runs = lab.ended("waits", "Completed")
    assert lab.counts(runs)[:3] == [(5, 0), (0, 5), (0, 5)]
    assert all(run.auto_scheduled for run in runs)
    assert not lab.overlap(runs)


def test_a_run_that_meets_another_of_its_deployment_waits(lab: Lab) -> None:
    deployment = lab.deployment("waits").id
    started = [lab.client.create_flow_run_from_deployment(deployment).id for _ in range(2)]
    ended = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
    wait_until(lambda: all(lab.state(run) in ended for run in started))
    assert [lab.state(run) for run in started] == ["COMPLETED", "COMPLETED"]
    passed = [state.name for run in started for state in lab.client.read_flow_run_states(run)]
    assert "AwaitingConcurrencySlot" in passed
    assert not lab.overlap([lab.client.read_flow_run(run) for run in started])


def test_after_a_worker_was_away_each_run_that_is_enqueued_goes(lab: Lab) -> None:
    lab.worker.kill()
    first = datetime.now(UTC) + timedelta(seconds=SECONDS_BETWEEN_FIRINGS)
    rule = f"FREQ=SECONDLY;INTERVAL={SECONDS_BETWEEN_FIRINGS};COUNT={FIRINGS}"
    schedule = RRuleSchedule(rrule=f"DTSTART:{first:%Y%m%dT%H%M%S}\nRRULE:{rule}")
    schedules: list[tuple[SCHEDULE_TYPES, bool]] = [(schedule, True)]
    lab.client.create_deployment_schedules(lab.deployment("catches-up").id, schedules)
    wait_until(lambda: len(lab.ended("catches-up", "Late")) == FIRINGS)
    late = {run.id for run in lab.ended("catches-up", "Late")}
    lab.worker.start()
    wait_until(lambda: all(run.end_time for run in lab.runs("catches-up")))
    runs = sorted(lab.ended("catches-up", "Completed"), key=lambda run: str(run.start_time))
    assert {run.id for run in runs} == late
    assert not lab.overlap(runs)
    first_run, *others = lab.counts(runs)
    assert first_run in ((4, 1), (5, 0)), "an earlier test may have left the images"
    assert others == [(0, 5)] * (FIRINGS - 1)


def test_after_a_worker_was_away_one_run_goes_and_those_that_overlap_it_are_dropped(lab: Lab) -> None:
    lab.worker.kill()
    lab.client.resume_deployment(lab.deployment("drops").id)
    wait_until(lambda: len(lab.ended("drops", "Late")) >= 2)
    late = {run.id for run in lab.ended("drops", "Late")}
    lab.worker.start()
    wait_until(lambda: lab.ended("drops", "Completed") and lab.ended("drops", "Cancelled"))
    lab.pause("drops")
    first, dropped = lab.ended("drops", "Completed")[0], lab.ended("drops", "Cancelled")[0]
    assert {first.id, dropped.id} <= late
    assert dropped.state is not None
    assert "concurrency limit" in (dropped.state.message or "").lower()


def test_a_run_beyond_the_limit_of_its_pool_waits(lab: Lab) -> None:
    lab.client.update_work_pool("lab", WorkPoolUpdate(concurrency_limit=1))
    runs = [
        lab.client.create_flow_run_from_deployment(lab.deployment(name).id, tags=[f"user:{user}"])
        for name, user in (("waits", "ann"), ("drops", "bob"))
    ]

    def now() -> list[FlowRun]:
        return [lab.client.read_flow_run(run.id) for run in runs]

    seen = set()
    found = now()
    while any(run.end_time is None for run in found):
        seen.add(tuple(sorted(run.state_type.value for run in found if run.state_type)))
        time.sleep(0.5)
        found = now()
    assert ("RUNNING", "SCHEDULED") in seen
    assert not any(state.count("RUNNING") == 2 for state in seen)
    assert [run.state_type and run.state_type.value for run in found] == ["COMPLETED", "COMPLETED"]
    assert not lab.overlap(found)
    users = {record.run: record.user for record in read_records(lab.store)}
    assert [users[str(run.id)] for run in runs] == ["ann", "bob"]
