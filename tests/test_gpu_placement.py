"""Where stages run on Ray nodes that say they have GPUs: who waits for one, who shares one, who has which.

No GPU is needed: the nodes claim numbers that no machine has, and stages compute as without one. The source
model's network meets its like: wherever it is built by a process that was given a GPU, it waits until as
many others stand there, and for leave to go on.
"""

import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
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


def given_gpus(place: Place, run: str) -> dict[str, str | None]:
    """Return which GPU each stage of a run was given, by title; one may have ended before it told."""
    of_run = [UUID(run)]
    with prefect_client(place.prefect) as client:
        tasks = client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=of_run)))
        titles = {task.id: task.name for task in tasks}

        def told() -> dict[str, str | None]:
            logs = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=of_run)), limit=200)
            lines = {
                titles[log.task_run_id]: log.message
                for log in logs
                if log.task_run_id is not None and ": computing on" in log.message
            }
            gpus = {title: re.search(r", GPU (\S+), log ", line) for title, line in lines.items()}
            return (
                {title: gpu and gpu[1] for title, gpu in gpus.items()} if len(gpus) + 2 > len(titles) else {}
            )

        given: dict[str, str | None] = wait_until(told)
        return given


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
        tester = place.gpus("waiting")
        place.expect("waiting", 3)  # the source model is tested by one process, and then used by two
        place.give_leave("waiting")
        wait_until(lambda: place.gpus("waiting")[2:], waiting)
        both = Counter(place.gpus("waiting")) - Counter(tester)
        assert sorted(both.elements()) == ["80", "81"], "side by side, each on its own"
        assert len(place.gpus("sharing")) == 4
        place.give_leave("sharing")
        results = [finish(process) for process in (sharing, waiting)]

    assert results[0]["stages"]["cached"] == 2, "the images and the source model"
    for result in results:
        given = given_gpus(place, result["run"])
        assert "images digits" in given
        for title, gpu in given.items():
            through_a_network = "shard" in title or title.startswith("source model of")  # that one is tested
            assert (gpu is not None) == through_a_network, title


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
    assert place.gpus("leaving") == ["70", "70", "70", "80", "81"], (
        "two are done again on the node that is left"
    )

    monkeypatch.chdir(place.folder)
    plan = build_plan(load_experiment("digits", [*SETTINGS, given[0], "shards=1"]))
    compute_all(plan, local_store)
    assert result["rows"][0]["test_accuracy"] == read_rows(local_store, plan.report.digest)[0].test_accuracy
