"""The image and ``docker/compose.yaml`` on a container engine: a grid is right, also after every fault.

``make test-containers`` runs it: it builds the image, and every service is a host of its own.
"""

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.command import Command
from tests.containers import SERVERS, Containers, missing_engine, wait_until
from tests.fault_cluster import Contents, contents

pytestmark = [pytest.mark.containers, pytest.mark.timeout(3600)]

SETTINGS = (
    *("data.train_size=640", "data.test_size=300", "shards=5"),
    *("source.epochs=4", "target.epochs=4", "attack.steps=1500"),
)
GRID = {"eps": [1.0, 1.5], "seeds": [0], "settings": SETTINGS}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containers]:
    if (reason := missing_engine()) is not None:
        pytest.skip(reason)
    containers = Containers(tmp_path_factory.mktemp("containers"))
    containers.build("first")
    began = time.monotonic()
    try:
        containers.up()
        print(f"\nall healthy after {time.monotonic() - began:.0f} s")
        yield containers
    finally:
        left = containers.down()
    assert left == []


@pytest.fixture(scope="module")
def on_this_host(tmp_path_factory: pytest.TempPathFactory) -> Contents:
    """Return what the same grid leaves in a store of this machine, computed without containers."""
    folder = tmp_path_factory.mktemp("host")
    command = Command(folder, {"ADVFEAT_STORE": str(folder / "store")})
    words = [word for name, values in GRID.items() for word in ("--set", f"{name}={json.dumps(values)}")]
    result = json.loads(command.succeed("grid", "d_det", "--json", *words))
    assert result["stages"]["computed"] == result["stages"]["total"]
    return contents(command)


def from_this_host(cluster: Containers, prefix: str, folder: Path) -> Command:
    """Return ``advfeat`` on this host, with a store below a prefix of the cluster's S3."""
    keys = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:8333",
        "AWS_SHARED_CREDENTIALS_FILE": str(cluster.secrets / "aws_credentials"),
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    return Command(folder, {**keys, "ADVFEAT_STORE": f"s3://advfeat/{prefix}"})


def stored(cluster: Containers, prefix: str, folder: Path) -> Contents:
    """Return what lies below a prefix of the cluster's S3, read from this host."""
    return contents(from_this_host(cluster, prefix, folder))


def started(cluster: Containers, prefix: str) -> str:
    run = cluster.start("d_det/d_det-process", {"grid": GRID, "store": f"s3://advfeat/{prefix}"})
    wait_until(lambda: cluster.state(run) != "SCHEDULED", 60)
    return run


def computing(cluster: Containers, run: str) -> None:
    """Wait until a run computes shards."""
    wait_until(lambda: "shard" in cluster.logs(run), 180)
    assert cluster.state(run) == "RUNNING"


def test_a_grid_from_a_deployment_is_that_of_the_host(
    cluster: Containers, on_this_host: Contents, tmp_path: Path
) -> None:
    began = time.monotonic()
    run = started(cluster, "undisturbed")
    assert cluster.end_of(run) == "COMPLETED", cluster.logs(run)
    print(f"\na grid took {time.monotonic() - began:.0f} s")
    assert stored(cluster, "undisturbed", tmp_path) == on_this_host


def test_a_schedule_fires_three_times_and_two_runs_are_cached(cluster: Containers, tmp_path: Path) -> None:
    deployment = cluster.api("deployments/name/clean/clean-process")["id"]
    settings = ["data.train_size=100", "data.test_size=40", "target.width=4", "target.epochs=1"]
    parameters = {"grid": {"seeds": [0], "settings": settings}, "store": "s3://advfeat/scheduled"}
    schedule = {"schedule": {"interval": 60}, "parameters": parameters, "active": True}
    cluster.api(f"deployments/{deployment}/schedules", [schedule])
    wanted = {
        "flow_runs": {
            "deployment_id": {"any_": [deployment]},
            "state": {"type": {"any_": ["COMPLETED"]}},
        }
    }
    wait_until(lambda: len(cluster.api("flow_runs/filter", wanted)) >= 3, 600)
    cluster.api(f"deployments/{deployment}/pause_deployment", {})
    cluster.up()  # which deploys again
    assert cluster.api(f"deployments/{deployment}")["paused"]
    assert len(cluster.api(f"deployments/{deployment}/schedules")) == 1
    runs = json.loads(from_this_host(cluster, "scheduled", tmp_path).succeed("runs", "--json"))
    counts = sorted(run["stages"]["computed"] for run in runs if run["state"] == "completed")
    assert counts[:2] == [0, 0]
    assert counts[-1] == 5


def test_a_run_outlives_its_servers_and_a_worker(
    cluster: Containers, on_this_host: Contents, tmp_path: Path
) -> None:
    run = started(cluster, "servers")
    computing(cluster, run)
    cluster.kill(cluster.containers("ray-worker")[0])
    for service in SERVERS:  # not one after the other is healthy: the run would end before the last
        cluster.restart(service)
    last = datetime.now(UTC)
    assert cluster.end_of(run) == "COMPLETED", cluster.logs(run)
    assert cluster.ended_at(run) > last, "the run ended before every service was restarted"
    assert stored(cluster, "servers", tmp_path) == on_this_host
    cluster.up()


@pytest.mark.parametrize("service", ["ray-head", "prefect-worker"])
def test_a_run_that_lost_its_cluster_is_started_again(
    cluster: Containers, on_this_host: Contents, tmp_path: Path, service: str
) -> None:
    run = started(cluster, service)
    computing(cluster, run)
    starts = cluster.starts("prefect-worker")
    cluster.restart(service)
    if service == "ray-head":  # the worker's node of Ray ends with the head, and the worker with its node
        wait_until(lambda: cluster.starts("prefect-worker") > starts, 180)
    cluster.up()
    again = started(cluster, service)
    assert cluster.end_of(again) == "COMPLETED", cluster.logs(again)
    assert stored(cluster, service, tmp_path) == on_this_host


def test_an_upgrade_with_a_run_in_flight(cluster: Containers, on_this_host: Contents, tmp_path: Path) -> None:
    run = started(cluster, "upgrade")
    computing(cluster, run)
    cluster.build("second")
    cluster.up()
    again = started(cluster, "upgrade")
    assert cluster.end_of(again) == "COMPLETED", cluster.logs(again)
    assert stored(cluster, "upgrade", tmp_path) == on_this_host
