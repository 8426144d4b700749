"""``python -m benchmarks gpu``, small and without a GPU: what it needs, what it leaves, how it ends early."""

import contextlib
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from advfeat.planning import load_experiment
from benchmarks.gpu import own_tests, setting
from benchmarks.gpu.clock import Clock, TimeIsUp
from benchmarks.gpu.command import PARTS, main

_ABSENT = ("ray", "prefect", "torchvision", "yaml", "PIL", "scipy", "sklearn", "rich", "matplotlib", "s3fs")
_WITHOUT_THEM = f"""
import sys
from importlib.machinery import PathFinder
class Absent(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in {_ABSENT!r} else PathFinder.find_spec(name, path, target)
sys.meta_path = [Absent if finder is PathFinder else finder for finder in sys.meta_path]
from benchmarks.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(arguments: list[str]) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-c", _WITHOUT_THEM, "gpu", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=400, cwd=own_tests.REPOSITORY)


@pytest.mark.slow
def test_it_runs_small_on_a_machine_with_little_else(tmp_path: Path) -> None:
    ended = run(["--quick", "--threads", "1", "--time-limit", "350", "--output", str(tmp_path)])
    assert ended.returncode == 0, ended.stdout + ended.stderr
    [saved] = tmp_path.glob("*.json")
    parts = json.loads(saved.read_text())["parts"]
    assert list(parts) == list(PARTS)
    ways = {part: found["outcome"]["ended"] for part, found in parts.items()}
    assert {part for part, way in ways.items() if way == "skipped"} == {"tests", "first-call"}  # want a GPU
    assert {way for part, way in ways.items() if part not in ("tests", "first-call")} == {"done"}
    table = parts["table"]["figures"]
    assert [row["recipe"] for row in table["rows"]] == ["d_rand", "d_det", "mislabeled"]
    assert table["rows"][0]["attack_success"] > 0.3
    assert parts["steps"]["figures"]["profiles"][0]["kernels"]
    assert "Learning from errors" in ended.stdout
    assert "Learning from errors" in saved.with_suffix(".md").read_text()


def test_a_run_that_is_short_of_time_ends_in_it(tmp_path: Path) -> None:
    asked = ["--quick", "--threads", "1", "--parts", "machine,dataset", "--output", str(tmp_path)]
    began = time.monotonic()
    assert main([*asked, "--time-limit", "6"]) == 0
    assert time.monotonic() - began < 20  # however busy the machine is
    [saved] = tmp_path.glob("*.json")
    found = json.loads(saved.read_text())["parts"]
    assert list(found) == ["machine", "images", "dataset"]
    assert found["dataset"]["outcome"]["ended"] == "skipped"
    assert "too short" in found["dataset"]["outcome"]["said"][0]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "gpu: None is not there (torch.cuda.is_available() is False); add --quick to try it out"),
        (["--quick", "--data", "numpy:nowhere.npz"], "nowhere.npz"),
        (["--quick", "--data", "nothing"], "nothing"),
        (["--quick", "--parts", "all"], "parts: 'all' is unknown"),
    ],
)
def test_what_cannot_run_is_refused_in_a_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert line in told
    assert told.count("\n") == 1


def test_a_part_ends_when_its_time_is_up() -> None:
    began = time.monotonic()

    def work() -> None:
        with Clock(60).share(0.2), contextlib.suppress(Exception):  # it is no error of what a part calls
            time.sleep(20)

    with pytest.raises(TimeIsUp):
        work()
    assert time.monotonic() - began < 3


def test_gpu_tests_are_told_one_by_one(tmp_path: Path) -> None:
    file = tmp_path / "test_three.py"
    file.write_text(
        "import time\ndef test_good(): pass\n"
        "def test_bad(): assert 1 == 2, 'they differ'\ndef test_slow(): time.sleep(60)\n"
    )
    found = own_tests.run(12, file)
    outcomes = [(result.test.rpartition("::")[2], result.outcome) for result in found.results]
    assert outcomes == [("test_good", "passed"), ("test_bad", "failed")]
    assert any("they differ" in line for line in found.results[1].told)
    assert not found.finished
    assert "test_bad" in found.tables()[1].as_text()


def test_the_setting_is_the_preset() -> None:
    """Where the preset has changed: ``python -m benchmarks.gpu.setting``."""
    assert setting.PRESET.read_text(encoding="utf-8") == setting.preset_as_json()
    small = setting.experiment({"source": "digits"}, quick=False)
    assert small.source == load_experiment("cifar10").source
    assert setting.with_epochs(small, source=0.5, target=0.0).target.epochs == 1
