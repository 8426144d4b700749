"""Runs that end early: nothing is lost, nothing is left running, and the next run goes on from there."""

import hashlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from advfeat.cluster.embedded import HOME
from tests.command import QUICK, Command, unconfigured
from tests.servers import give_prefect_database

POINTS = 150
TINY = ("data.train_size=32", "data.test_size=32", "target.width=4", "target.epochs=1")
LARGE_GRID = (
    *("grid", "clean", "--json", "--set", f"seeds={list(range(POINTS))}"),
    *(word for assignment in TINY for word in ("--set", assignment)),
)
CPU_SECONDS_OF_CACHED_STAGE = 0.02
STAGES_OF_LARGE_GRID = 3 * POINTS + 2  # data set, target model and evaluation of each; images and report

THREE_RECIPES = (*QUICK, "--set", "recipes=[clean, d_rand, d_det]")


@pytest.fixture(scope="module")
def temporary() -> Iterator[Path]:
    """A temporary folder of these runs' own; pytest's have paths that are too long for sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="t") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path, temporary: Path) -> Command:
    """``advfeat`` on the embedded default; each test goes on where the one before it was ended."""
    folder = tmp_path_factory.mktemp("home")
    give_prefect_database(folder / HOME, prefect_database)
    return Command(folder, {"TMPDIR": str(temporary)})


def finished(command: Command) -> int:
    """Return how many artifacts there are."""
    return len(list(command.folder.glob(".advfeat/store/artifacts/*/manifest.json")))


def start_until_computing(command: Command) -> "subprocess.Popen[str]":
    """Start a run and wait until it has published two artifacts, in the middle of its work."""
    before = finished(command)
    process = command.start(["run", *THREE_RECIPES])
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if finished(command) >= before + 2:
            return process
        time.sleep(0.05)
    process.kill()
    raise TimeoutError("nothing was computed")


def states_in_prefect(command: Command) -> tuple[str, list[str]]:
    """Return the states of the last run and of its tasks, as the embedded server's database has them."""
    with closing(sqlite3.connect(command.folder / HOME / "prefect" / "0" / "prefect.db")) as database:
        ((run, state),) = database.execute(
            "select id, state_name from flow_run order by created desc limit 1"
        )
        tasks = database.execute("select state_name from task_run where flow_run_id = ?", (run,))
        return state, [name for (name,) in tasks]


TERMINATED = """
import os, signal, time

def told(*_):
    raise KeyboardInterrupt

signal.signal(signal.SIGTERM, told)
from advfeat.cluster.embedded import local_ray
try:
    with local_ray():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
except KeyboardInterrupt:
    print("told")
"""


@pytest.mark.servers
def test_ray_takes_no_signal_from_who_started_it(temporary: Path, tmp_path: Path) -> None:
    environment = {**unconfigured(), "TMPDIR": str(temporary)}
    ended = subprocess.run(
        [sys.executable, "-c", TERMINATED],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (0, "told\n"), ended.stderr
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_an_interrupted_run_says_so_and_leaves_nothing(
    home: Command, temporary: Path, number: signal.Signals
) -> None:
    process = start_until_computing(home)
    # Ctrl-C in a terminal reaches the whole process group.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1] == "advfeat: interrupted; finished stages are kept"
    assert home.left_processes(3) == []
    assert list(temporary.iterdir()) == []
    if number == signal.SIGINT:
        run, tasks = states_in_prefect(home)
        assert run == "Cancelled"
        assert "Running" not in tasks


def test_a_killed_run_leaves_no_process_and_two_at_once_resume_it(
    home: Command, served_command: Command, temporary: Path
) -> None:
    process = start_until_computing(home)
    process.kill()
    process.communicate(timeout=60)
    assert home.left_processes(30) == []
    kept = finished(home)
    (left,) = temporary.iterdir()
    os.utime(left, (0, 0))  # old enough for the next run to see that nobody holds it

    commands, store = [home, served_command], str(home.folder / HOME / "store")
    processes = [command.start(["run", "--json", *THREE_RECIPES, "--store", store]) for command in commands]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    results = [json.loads(stdout) for stdout, _ in outputs]
    assert results[0]["rows"] == results[1]["rows"]
    assert results[0]["run"] != results[1]["run"]
    for stages in (result["stages"] for result in results):
        assert stages["cached"] >= kept >= 6
        assert stages["computed"] == stages["total"] - stages["cached"]
    assert results[0]["stages"]["computed"] + results[1]["stages"]["computed"] > 0
    assert home.succeed("verify").splitlines()[-1].endswith(" 0 damaged")
    assert [command.left_processes(3) for command in commands] == [[], []]
    assert list(temporary.iterdir()) == []


def payloads(command: Command) -> dict[str, tuple[str, int]]:
    """Return the SHA-256 and the time of writing of each file of the artifacts that are finished."""
    folders = [path.parent for path in command.folder.glob(".advfeat/store/artifacts/*/manifest.json")]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {
        str(file): (hashlib.sha256(file.read_bytes()).hexdigest(), file.stat().st_mtime_ns) for file in files
    }


def seconds_until_stored(command: Command, process: "subprocess.Popen[str]", count: int) -> float:
    """Wait until so many artifacts are there, while a run goes on; return how long that took."""
    began = time.monotonic()
    while finished(command) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < began + 1200
        time.sleep(0.05)
    return time.monotonic() - began


def cpu_seconds(process: "subprocess.Popen[str]") -> float:
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_killed_grid_of_hundreds_of_stages_goes_on_at_once(
    prefect_database: Path, tmp_path: Path, temporary: Path
) -> None:
    command = Command(tmp_path, {"TMPDIR": str(temporary)})
    give_prefect_database(tmp_path / HOME, prefect_database)
    killed = command.start(LARGE_GRID)
    first = seconds_until_stored(command, killed, 2)
    first_cpu = cpu_seconds(killed)
    seconds_until_stored(command, killed, STAGES_OF_LARGE_GRID // 3)
    killed.kill()
    killed.communicate(timeout=60)
    assert command.left_processes(120) == []
    (left,) = temporary.iterdir()
    os.utime(left, (0, 0))  # old enough for the next run to see that nobody holds it

    before, stored = payloads(command), finished(command)
    assert STAGES_OF_LARGE_GRID // 3 <= stored < STAGES_OF_LARGE_GRID // 2
    process = command.start(LARGE_GRID)
    second = seconds_until_stored(command, process, stored + 1)
    second_cpu, computing = cpu_seconds(process), time.monotonic()
    stdout, stderr = process.communicate(timeout=1800)
    assert process.returncode == 0, stderr
    rate = (STAGES_OF_LARGE_GRID - stored) / (time.monotonic() - computing)
    print(f"first stage after {first:.1f} s, of the driver's CPU {first_cpu:.1f} s")
    print(f"started again: {second:.1f} s and {second_cpu:.1f} s, then {rate:.1f} stages/s")
    result = json.loads(stdout)
    assert result["stages"] == {
        "total": STAGES_OF_LARGE_GRID,
        "computed": STAGES_OF_LARGE_GRID - stored,
        "cached": stored,
    }
    assert sorted(row["axes"]["seed"] for row in result["rows"]) == list(range(POINTS))
    assert before.items() <= payloads(command).items(), "what was stored is as it was"
    assert second_cpu < first_cpu + 2 + stored * CPU_SECONDS_OF_CACHED_STAGE
    assert second < 2 * first + 30, "nothing of the killed run is waited for"
    assert command.left_processes(3) == []
    assert list(temporary.iterdir()) == []


def test_a_failed_stage_keeps_the_rest_and_runs_again_alone(served_command: Command, temporary: Path) -> None:
    served_command.extra = {**served_command.extra, "TMPDIR": str(temporary)}
    # A weak source that is always right leaves the data set mislabeled empty.
    perfect = (
        *("--set", "data.train_size=100", "--set", "seeds=[0]", "--set", "recipes=[clean, mislabeled]"),
        *("--set", "target.epochs=2", "--set", "weak_source.batch_size=16"),
        *("--set", "weak_source.epochs=40", "--set", "weak_source.learning_rate=0.1"),
    )
    failed = served_command("run", *perfect)
    assert failed.returncode == 1
    assert failed.stdout == ""
    last = failed.stderr.splitlines()[-1]
    assert last.startswith("advfeat: 1 of 9 stages failed and 2 that need them were not started")
    assert "target model mislabeled, seed 0: the data set holds 0 images" in last
    assert "Traceback" not in failed.stderr
    states = {
        entry["title"]: entry["state"]
        for entry in json.loads(served_command.succeed("plan", "--json", *perfect))
    }
    assert {title for title, state in states.items() if state == "compute"} == {
        "target model mislabeled, seed 0",
        "evaluation mislabeled, seed 0",
        "report",
    }
    assert served_command.left_processes(3) == []
    assert list(temporary.iterdir()) == []
