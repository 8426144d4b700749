"""A plugin of pytest: tells of each test as it ends, a line of JSON in the file that ADVFEAT_TOLD names."""

import json
import os
from pathlib import Path

import pytest


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Tell of a file that cannot be imported."""
    if report.failed:
        _tell(report.nodeid, "failed", 0.0, report.longreprtext)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Tell of a test; of one that passes once, and not of what prepared it."""
    if report.when == "call" or not report.passed:
        told = report.longreprtext if report.failed else ""
        _tell(report.nodeid, report.outcome, report.duration, told)


def _tell(test: str, outcome: str, seconds: float, told: str) -> None:
    line = json.dumps({"test": test, "outcome": outcome, "seconds": round(seconds, 2), "told": told})
    with Path(os.environ["ADVFEAT_TOLD"]).open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
