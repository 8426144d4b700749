"""Part ``tests``: ``tests/test_gpu.py`` in a process of its own, which tells of each test as it ends."""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from advfeat.spec import Spec
from benchmarks.table import Table

REPOSITORY = Path(__file__).parent.parent.parent
TESTS = REPOSITORY / "tests" / "test_gpu.py"
_LAST_LINES = 12


class Result(Spec):
    """How one test ended, with the last lines of what it told if it failed."""

    test: str
    outcome: str
    seconds: float
    told: tuple[str, ...] = ()


class Figures(Spec):
    """How all of them ended."""

    results: tuple[Result, ...]
    finished: bool
    """Whether the process came to its own end."""

    def tables(self) -> list[Table]:
        """Return counts, and the tests that did not pass."""
        counts = Counter(result.outcome for result in self.results)
        failed = [result for result in self.results if result.outcome == "failed"]
        note = "" if self.finished else "It did not finish: the time was up, or the process was killed."
        tables = [
            Table(
                title="GPU tests",
                columns=("outcome", "tests"),
                rows=tuple((outcome, str(count)) for outcome, count in counts.items()),
                note=note,
            )
        ]
        if failed:
            lines = [line for test in failed for line in (test.test, *(f"  {told}" for told in test.told))]
            rows = tuple((line,) for line in lines)
            tables.append(Table(title="GPU tests that failed", columns=("what they told last",), rows=rows))
        return tables


def run(seconds: float, tests: Path = TESTS) -> Figures:
    """Run the tests for at most so many seconds.

    Without the suite's own ``conftest.py``, which needs what a machine with a GPU and nothing else lacks.
    """
    with tempfile.TemporaryDirectory(prefix="advfeat-tests-") as folder:
        told = Path(folder) / "told.jsonl"
        words = ["--noconftest", "-o", "addopts=", "-p", "no:cacheprovider", "-p", "benchmarks.gpu.telling"]
        environment = {
            **os.environ,
            "ADVFEAT_TEST_GPU": "1",
            "ADVFEAT_TOLD": str(told),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")])),
        }
        command = [sys.executable, "-m", "pytest", "-q", *words, str(tests)]
        try:
            ended = subprocess.run(
                command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=seconds
            )
        except subprocess.TimeoutExpired:
            return Figures(results=_results(told), finished=False)
        results = _results(told)
        if not results:  # it did not come so far: what pytest itself says
            lines = tuple(f"{ended.stdout}\n{ended.stderr}".strip().splitlines()[-_LAST_LINES:])
            results = (Result(test=tests.name, outcome="failed", seconds=0.0, told=lines),)
        return Figures(results=results, finished=ended.returncode >= 0)


def _results(told: Path) -> tuple[Result, ...]:
    if not told.exists():
        return ()
    reports = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    found = [{**each, "told": each["told"].strip().splitlines()[-_LAST_LINES:]} for each in reports]
    return tuple(Result.model_validate(each) for each in found)
