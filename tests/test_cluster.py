"""``advfeat up``, ``down``, ``status``: real services under a real supervisor, ended for good."""

import json
import os
import shlex
import signal
import time
from collections.abc import Iterator
from typing import Any

import psutil
import pytest

from advfeat.cluster.layout import MARK, Layout
from tests.command import QUICK, Command
from tests.exposure import assert_private, files_with, run_and_look

UP = ("up", "--workers", "2", "--cores-per-worker", "1")
NAMES = ["prefect", "s3", "ray-head", "ray-worker-1", "ray-worker-2", "deployment"]

pytestmark = [pytest.mark.timeout(900), pytest.mark.faults]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A cluster in a folder whose name is awkward."""
    command = Command(tmp_path_factory.mktemp("cluster") / "a, 100 % b")
    command.folder.mkdir()
    try:
        shown = command.succeed(*UP)
        assert "source .advfeat/cluster/env && advfeat run" in shown
        yield command
    finally:
        command("down", "--delete", "--yes")
        assert command.left_processes(1) == []
    assert not layout(command).folder.exists()


def layout(command: Command) -> Layout:
    return Layout(command.folder / ".advfeat")


def processes(command: Command) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(layout(command).folder):
                found.append(process)
        except psutil.Error:
            continue
    return found


def status(command: Command) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(command("status", "--json").stdout)
    return found


def wait_until_healthy(command: Command) -> None:
    deadline = time.monotonic() + 120
    while command("status").returncode != 0:
        assert time.monotonic() < deadline, command("status").stdout


def sourced(command: Command) -> Command:
    """Return the command for a shell that sourced the cluster's variables."""
    lines = (layout(command).env).read_text().splitlines()
    words = [shlex.split(line)[1].split("=", 1) for line in lines]
    return Command(command.folder, dict(words))


def test_no_service_failed_at_first(cluster: Command) -> None:
    """Ray's workers start at the same time; in one folder they took each other's sockets."""
    assert "exited" not in layout(cluster).log("supervisord").read_text()


def test_a_second_up_finds_the_first(cluster: Command) -> None:
    before = {process.pid for process in processes(cluster)}
    found = json.loads(cluster.succeed("up", "--json"))
    assert [service["name"] for service in found["services"]] == NAMES
    assert found["healthy"]
    assert found == status(cluster)
    assert {process.pid for process in processes(cluster)} <= before
    other = cluster("up", "--workers", "3")
    assert other.returncode == 2
    assert "advfeat down" in other.stderr


def test_a_run_on_it_and_what_may_be_seen(cluster: Command) -> None:
    credentials = layout(cluster).credentials()
    secrets = {credentials.prefect.partition(":")[2], credentials.secret_key, credentials.ray_token}
    supervisord = psutil.Process(int((layout(cluster).folder / "supervisord.pid").read_text()))
    result, exposure = run_and_look(sourced(cluster), *QUICK, secrets=secrets, servers=supervisord)
    assert result["stages"]["computed"] == result["stages"]["total"]
    assert result["store"] == "s3://advfeat/store"

    state = layout(cluster).state()
    assert state is not None
    assert exposure.secrets == secrets
    assert set(state.ports.values()) <= set(exposure.ports), "each was asked, and refused"
    found = files_with(secrets, layout(cluster).folder, state.sockets)
    assert {file.name for file in found} == {"credentials.json", "env", "login", "ray_token", "s3.json"}
    keys = (layout(cluster).s3 / "key.pem", layout(cluster).s3 / "security.toml")
    for file in (*found, *keys, *layout(cluster).logs.iterdir()):
        assert_private(file)


def test_what_is_killed_comes_back(cluster: Command) -> None:
    before = {service["name"]: service for service in status(cluster)["services"]}
    for name in ("prefect", "ray-worker-1"):
        os.kill(before[name]["pid"], signal.SIGKILL)
    done = cluster("status")
    assert done.returncode == 1
    assert "does not answer" in done.stdout
    wait_until_healthy(cluster)
    after = {service["name"]: service for service in status(cluster)["services"]}
    assert after["prefect"]["pid"] != before["prefect"]["pid"]
    assert {name: entry["address"] for name, entry in after.items()} == {
        name: entry["address"] for name, entry in before.items()
    }


def test_artifacts_outlive_the_supervisor(cluster: Command) -> None:
    shell = sourced(cluster)
    artifacts = shell.succeed("ls")
    (supervisord,) = [
        process for process in processes(cluster) if "supervisor.supervisord" in process.cmdline()
    ]
    supervisord.kill()
    supervisord.wait(10)
    gone = cluster("status")
    assert (gone.returncode, gone.stdout) == (1, "no cluster is running\n")
    assert cluster.succeed("down") == "stopped\n"
    assert cluster.left_processes(1) == []
    cluster.succeed(*UP)
    assert sourced(cluster).succeed("ls") == artifacts
    assert cluster.succeed("down") == "stopped\n"
    assert cluster.left_processes(1) == []
    assert cluster.succeed("down") == "no cluster is running\n"


def test_ctrl_c_stops_what_was_started(command: Command) -> None:
    process = command.start(UP)
    assert process.stderr is not None
    assert "healthy after" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 130
    assert command.left_processes(1) == []


def test_a_stale_state_hurts_nobody(command: Command) -> None:
    place = layout(command)
    place.create()
    state = place.new_state(workers=1, cores_per_worker=1)
    state.sockets.rmdir()  # as after a restart of the machine
    (place.folder / "supervisord.pid").write_text(str(os.getpid()))
    assert command("status").stdout == "no cluster is running\n"
    asked = command("down", "--delete")
    assert asked.returncode == 2
    assert "would be deleted without asking; add --yes" in asked.stderr
    assert place.folder.exists()
    done = command("down", "--delete", "--yes")
    assert (done.returncode, done.stdout) == (0, "no cluster is running\n")
    assert done.stderr == f"deleted {place.folder}: artifacts, Prefect's database, credentials\n"
    assert not place.folder.exists()
    assert command.succeed("down", "--delete") == "no cluster is running\n"


def test_without_the_extra(command: Command) -> None:
    (command.folder / "sitecustomize.py").write_text("import sys\nsys.modules['supervisor'] = None\n")
    command.extra = {"PYTHONPATH": str(command.folder)}
    done = command("up")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "advfeat: advfeat up: 'supervisor' is not installed; install advfeat with the extra local; "
        "in a clone: .venv/bin/uv pip install -c constraints.txt -e '.[local]'"
    ]
