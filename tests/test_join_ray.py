"""``docker/join-ray``: a command on a node of a real Ray cluster, which lives no longer than the node."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from tests.command import Command
from tests.servers import free_ports, ray_cluster

JOIN_RAY = str(Path(__file__).parents[1] / "docker" / "join-ray")
ENDS_WITH_7 = ("sh", "-c", "trap 'exit 7' TERM; echo begun; sleep 600 & wait")

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with ray_cluster(tmp_path_factory.mktemp("ray"), 0) as variables:
        yield variables | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.fixture
def joined(variables: dict[str, str], tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path, variables)
    yield command
    for process in command.processes():  # in a container they end with it
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def when_begun(command: Command) -> "subprocess.Popen[str]":
    """Start a command on a node, and wait until it runs."""
    started = command.start(ENDS_WITH_7, JOIN_RAY)
    assert started.stdout is not None
    assert any(line == "begun\n" for line in started.stdout)
    return started


def test_the_command_ends_when_its_node_does(joined: Command) -> None:
    started = when_begun(joined)
    (raylet,) = (process for process in joined.processes() if process.name() == "raylet")
    raylet.kill()
    assert started.wait(timeout=60) == 1
    assert started.stderr is not None
    assert "node of Ray has ended" in started.stderr.readline()
    assert " ".join(ENDS_WITH_7) not in joined.processes().values()


def test_a_signal_reaches_the_command_whose_exit_code_counts(joined: Command) -> None:
    started = when_begun(joined)
    began = time.monotonic()
    started.terminate()
    assert started.wait(timeout=60) == 7
    assert time.monotonic() - began < 10


def test_the_node_hands_out_metrics_at_the_port_that_it_is_given(joined: Command) -> None:
    (port,) = free_ports(1)
    joined.extra = {**joined.extra, "ADVFEAT_METRICS_PORT": str(port)}
    when_begun(joined)
    deadline, text = time.monotonic() + 60, ""
    while "ray_node_cpu_count" not in text:
        assert time.monotonic() < deadline, text
        time.sleep(1)
        with contextlib.suppress(httpx.TransportError):
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
