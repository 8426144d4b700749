"""Where stages run on Ray nodes that say they have GPUs: who waits for one, who shares one, who has which.

No GPU is needed: the nodes claim numbers that no machine has, and stages compute as without one. The source
model's network meets its like: wherever it is built by a process that was given a GPU, it waits until as
many others stand there, and for leave to go on.
"""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId, LogFilter, LogFilterFlowRunId

from advfeat.planning import build_plan, load_experiment
from advfeat.report.rows import read_rows
from advfeat.storage import Store
from tests.command import Command
from tests.fault_cluster import finish, wait_until
from tests.inline import compute, compute_all
from tests.servers import RayNodes, prefect_client, ray_nodes

pytestmark = [pytest.mark.all_cores, pytest.mark.faults]

NETWORK = """
import os
import time
from pathlib import Path

from torch import nn


def build(classes):
    gpu, place = os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("ADVFEAT_TEST_MEETING")
    if gpu and place:
        (Path(place) / str(os.getpid())).write_text(gpu)
        expected, deadline = int((Path(place) / "expected").read_text()), time.monotonic() + 400
        while len(list(Path(place).glob("[0-9]*"))) < expected or not (Path(place) / "leave").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("the others did not come")
            time.sleep(0.1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, classes))
"""
FIRST, SECOND = [70], [80, 81]
"""The GPUs of the two nodes."""

SETTINGS = (
    *("source={model: 'net.py:build', epochs: 2}", "weak_source.model=mlp", "robust_source=null"),
    *("data.train_size=512", "data.test_size=100", "attack.steps=2", "seeds=[0]"),
)


@dataclass
class Place:
    """A cluster with GPUs that nobody has, and a folder with a network whose source model is there."""

    nodes: RayNodes
    prefect: dict[str, str]
    folder: Path
    source: str
    """The digest of the source model, which is in the store with its images."""
    started: list[Command] = field(default_factory=list)

    @property
    def store(self) -> Store:
        """The store of all runs."""
        return Store(str(self.folder / "store"))

    def start(self, name: str, expected: int, *arguments: str) -> "subprocess.Popen[str]":
        """Start a run whose processes on GPUs wait for each other, until so many are there."""
        (meeting := self.folder / name).mkdir()
        self.expect(name, expected)
        variables = {**self.prefect, **self.nodes.variables, "ADVFEAT_TEST_MEETING": str(meeting)}
        command = Command(self.folder, {**variables, "ADVFEAT_STORE": self.store.uri})
        self.started.append(command)
        return command.start(["run", "--json", *words(*SETTINGS), *arguments])

    def expect(self, name: str, expected: int) -> None:
        """Let those who come from now on wait until so many have come."""
        (self.folder / name / "expected").write_text(str(expected))

    def gpus(self, name: str) -> list[str]:
        """Return which GPUs the processes see that have come to a meeting."""
        return sorted(file.read_text() for file in (self.folder / name).glob("[0-9]*"))

    def give_leave(self, name: str) -> None:
        """Let those of a meeting go on."""
        (self.folder / name / "leave").touch()


class Stay(NamedTuple):
    """When a stage was computed, and on which GPU; ``None`` if it was given none."""

    begin: datetime
    end: datetime
    gpu: str | None


def words(*assignments: str) -> list[str]:
    """Return assignments as words of a command line."""
    return [word for assignment in assignments for word in ("--set", assignment)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, prefect_api: dict[str, str]) -> Iterator[Place]:
    """The head and the first node; tests start the second one."""
    folder = tmp_path_factory.mktemp("gpus")
    (folder / "net.py").write_text(NETWORK)
    nodes, store = ray_nodes(folder / "ray", 0, [5, 3], [FIRST, SECOND]), Store(str(folder / "store"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for stage in build_plan(load_experiment("digits", [*SETTINGS, "recipes=[d_rand]"])).stages[:2]:
            made = compute(stage, store)
    with nodes.head.running(), nodes.workers[0].running():
        place = Place(nodes, prefect_api, folder, source=made.digest)
        yield place
        for command in place.started:
            for process in command.processes():  # where a test failed
                process.kill()


def computed(place: Place, run: str) -> dict[str, Stay]:
    """Return what a run computed but for its report, by title, once the workers have told where.

    Of the report they may not have told when the run ends, and they with it.
    """
    of_run = [UUID(run)]
    with prefect_client(place.prefect) as client:
        runs = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=of_run)))
        tasks = [task for task in runs if task.state_name == "Completed" and task.name != "report"]

        def told() -> dict[Any, str]:
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=of_run)), limit=200)
            found = {log.task_run_id: log.message for log in logs if ": computing on" in log.message}
            return found if found.keys() >= {task.id for task in tasks} else {}

        where: dict[Any, str] = wait_until(told)
    found = {}
    for task in tasks:
        assert task.start_time is not None
        assert task.end_time is not None
        gpu = re.search(r", GPU (\S+), log ", where[task.id])
        found[task.name] = Stay(task.start_time, task.end_time, gpu and gpu[1])
    return found


def test_gpus_are_taken_shared_and_waited_for(place: Place) -> None:
    sharing = place.start("sharing", 4, *words("recipes=[leakage]", "shards=4"), "--gpus-per-stage", "0.25")
    wait_until(lambda: place.gpus("sharing")[3:], sharing)
    assert place.gpus("sharing") == ["70"] * 4

    # The only GPU is taken. The source model of the store is used for other images.
    others = ("recipes=[leakage_d_det]", "shards=2", "data.train_size=500", f"source.weights={place.source}")
    before = len(place.store.digests())
    waiting = place.start("waiting", 1, *words(*others))
    wait_until(lambda: len(place.store.digests()) > before, waiting)
    assert place.gpus("waiting") == []

    with place.nodes.workers[1].running():
        wait_until(lambda: place.gpus("waiting"), waiting)
        place.expect("waiting", 3)  # the source model is tested by one process, and used by two
        place.give_leave("waiting")
        wait_until(lambda: place.gpus("waiting")[2:], waiting)
        assert len(place.gpus("sharing")) == 4
        place.give_leave("sharing")
        results = [finish(process) for process in (sharing, waiting)]

    first, second = (computed(place, result["run"]) for result in results)
    assert {stay.gpu for title, stay in first.items() if "shard" in title} == {"70"}
    assert {stay.gpu for title, stay in second.items() if "shard" in title} == {"80", "81"}
    assert results[0]["stages"]["cached"] == 2, "the images and the source model"
    of_networks = ("shard", "source model of")
    others_asked = {
        stay.gpu
        for stays in (first, second)
        for title, stay in stays.items()
        if not any(words in title for words in of_networks)
    }
    assert {"source model, seed 0"} <= first.keys()
    assert {"images digits"} <= second.keys()
    assert others_asked == {None}, (
        "neither what is cached nor what sends no image through a network asks for one"
    )


def test_a_node_that_leaves_gives_its_gpu_stages_to_the_other(
    place: Place, monkeypatch: pytest.MonkeyPatch, local_store: Store
) -> None:
    given = ("recipes=[leakage_d_det]", "shards=3")
    with place.nodes.workers[1].running():
        run = place.start("leaving", 3, *words(*given))
        wait_until(lambda: place.gpus("leaving")[2:], run)
        assert place.gpus("leaving") == ["70", "80", "81"]
        place.nodes.workers[1].kill()
        place.give_leave("leaving")
        result = finish(run)
    shards = {title: stay for title, stay in computed(place, result["run"]).items() if "shard" in title}
    assert {stay.gpu for stay in shards.values()} == {"70"}
    assert len(shards) == 3

    monkeypatch.chdir(place.folder)
    plan = build_plan(load_experiment("digits", [*SETTINGS, given[0], "shards=1"]))
    compute_all(plan, local_store)
    assert result["rows"][0]["test_accuracy"] == read_rows(local_store, plan.report.digest)[0].test_accuracy
