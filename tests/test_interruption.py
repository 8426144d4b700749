"""Runs that end early: nothing is lost, nothing is left running, and the next run goes on from there."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.command import QUICK, Command

THREE_RECIPES = (*QUICK, "--set", "recipes=[clean, d_rand, d_det]")


def start_until_computing(command: Command) -> "subprocess.Popen[str]":
    """Start a run and wait until it has published a source model, in the middle of its work."""
    process = command.start(["run", *THREE_RECIPES])
    artifacts = command.folder / ".advfeat" / "store" / "artifacts"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        if len(list(artifacts.glob("*/manifest.json"))) >= 4:
            return process
        time.sleep(0.05)
    process.kill()
    raise TimeoutError("nothing was computed")


@pytest.mark.servers
@pytest.mark.parametrize(
    ("shell", "number"),
    [("command", signal.SIGINT), ("served_command", signal.SIGTERM)],
    ids=["ctrl-c", "term"],
)
def test_an_interrupted_run_says_so_and_leaves_no_process(
    request: pytest.FixtureRequest, shell: str, number: signal.Signals
) -> None:
    command: Command = request.getfixturevalue(shell)
    process = start_until_computing(command)
    # Ctrl-C in a terminal reaches the whole process group.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert stderr.splitlines()[-1] == "advfeat: interrupted; what was finished is kept"
    assert command.left_processes(3) == []


def test_a_killed_run_leaves_no_process_and_is_resumed(command: Command) -> None:
    process = start_until_computing(command)
    process.kill()
    process.communicate(timeout=60)
    assert command.left_processes(30) == []
    finished = len(list((command.folder / ".advfeat" / "store").glob("artifacts/*/manifest.json")))
    resumed = json.loads(command.succeed("run", "--json", *THREE_RECIPES))
    stages = resumed["stages"]
    assert stages["cached"] >= finished >= 4
    assert stages["computed"] == stages["total"] - stages["cached"] > 0
    assert command.succeed("verify").splitlines()[-1].endswith(" 0 damaged")
    assert command.left_processes(3) == []


def test_a_failed_stage_keeps_the_rest_and_runs_again_alone(served_command: Command) -> None:
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


@pytest.mark.servers
def test_two_runs_at_once_on_one_store(tmp_path: Path) -> None:
    store = ("--store", str(tmp_path / "store"))
    commands = [Command(tmp_path / name) for name in ("one", "two")]
    for command in commands:
        command.folder.mkdir()
    processes = [command.start(["run", "--json", *THREE_RECIPES, *store]) for command in commands]
    outputs = [process.communicate(timeout=300) for process in processes]
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    results = [json.loads(stdout) for stdout, _ in outputs]
    assert results[0]["rows"] == results[1]["rows"]
    assert results[0]["run"] != results[1]["run"]
    assert commands[0].succeed("verify", *store).splitlines()[-1].endswith(" 0 damaged")
    assert [command.left_processes(3) for command in commands] == [[], []]
