"""What a grid saves over its experiments run apart, and what the report of a large one costs.

Both sides are commands as users type them, on the embedded default, each of the separate ones in an empty
folder: start of the servers, computation, report. The large grid's experiments are tiny: its report is what
is measured.
"""

import shlex
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydantic import Field

from advfeat.planning import load_grid, points
from advfeat.spec import Spec
from benchmarks.command import advfeat, assigned
from benchmarks.options import Numbers
from benchmarks.table import Table, figure

_TINY = ("data.train_size=64", "data.test_size=64", "source.epochs=1", "target.epochs=1", "attack.steps=1")
_EPS = (0.5, 1.0, 1.5)


class Settings(Spec):
    """How large the grids are."""

    grid_steps: Numbers = Field(default=(5, 10, 20), description="attack steps of the grid, beside 3 eps")
    grid_seeds: Numbers = Field(default=(0, 1, 2), description="seeds of the grid")
    cold_runs: int = Field(default=27, ge=1, description="points run apart, spread over the grid")
    report_rows: int = Field(
        default=200, ge=20, le=200, multiple_of=20, description="rows of the large report, in twenties"
    )


QUICK = Settings(grid_steps=(5,), grid_seeds=(0,), cold_runs=1, report_rows=20)


class Figures(Spec):
    """Times in seconds, the report's size in bytes."""

    settings: Settings
    experiments: int
    grid_seconds: float
    cold_seconds: tuple[float, ...]
    extended_seconds: float
    report_seconds: float
    report_bytes: int

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        apart = self.experiments * float(np.mean(self.cold_seconds))
        return [
            Table(
                title=f"A grid of {self.experiments} digits experiments (d_det)",
                columns=("", "s", "share, %"),
                rows=(
                    (
                        f"{self.experiments} runs apart ({len(self.cold_seconds)} of them measured)",
                        figure(apart),
                        "100",
                    ),
                    ("one grid", figure(self.grid_seconds), figure(100 * self.grid_seconds / apart)),
                    (
                        "the grid again with one more eps",
                        figure(self.extended_seconds),
                        figure(100 * self.extended_seconds / apart),
                    ),
                ),
                note="Embedded Prefect server and Ray, started by each command.",
            ),
            Table(
                title=f"The report of {self.settings.report_rows} rows",
                columns=("s", "MB"),
                rows=((figure(self.report_seconds), figure(self.report_bytes / 1e6)),),
                note="All figures, example images and commands in one file, on one core.",
            ),
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Time the grid, its points apart, and a large report."""
    axes = [f"steps={list(settings.grid_steps)}", f"seeds={list(settings.grid_seeds)}"]
    wanted = points("d_det", load_grid("d_det", [*axes, f"eps={list(_EPS)}"]))
    spread = np.linspace(0, len(wanted) - 1, settings.cold_runs).round().astype(int)
    cold = []
    for number in spread:
        say(f"apart: {wanted[number].command}")
        with tempfile.TemporaryDirectory(prefix="advfeat-apart-") as folder:
            cold.append(_timed(shlex.split(wanted[number].command)[1:], Path(folder)))
    with tempfile.TemporaryDirectory(prefix="advfeat-grid-") as folder:
        say(f"one grid of {len(wanted)}")
        grids = [
            _timed(["grid", "d_det", *assigned([*axes, f"eps={list(eps)}"])], Path(folder))
            for eps in (_EPS, (*_EPS, 2.0))
        ]
    say(f"report of {settings.report_rows} rows")
    seconds, size = _large_report(settings.report_rows)
    return Figures(
        settings=settings,
        experiments=len(wanted),
        grid_seconds=grids[0],
        cold_seconds=tuple(cold),
        extended_seconds=grids[1],
        report_seconds=seconds,
        report_bytes=size,
    )


def _timed(arguments: Sequence[str], folder: Path) -> float:
    began = time.monotonic()
    advfeat(arguments, folder)
    return time.monotonic() - began


def _large_report(rows: int) -> tuple[float, int]:
    """Return how long the report of a grid of so many rows takes to build, and its bytes."""
    from advfeat.planning import build_grid_plan, grid_report
    from advfeat.stages.grid_report import write_grid_report
    from advfeat.storage import Store
    from tests.inline import compute

    seeds = max(1, rows // 20)
    eps = [round(0.1 * number, 1) for number in range(1, rows // seeds + 1)]
    axes = [f"eps={eps}", f"seeds={list(range(seeds))}", *_TINY]
    wanted = points("d_det", load_grid("d_det", axes))
    plan = build_grid_plan(wanted)
    with tempfile.TemporaryDirectory(prefix="advfeat-report-") as folder:
        store = Store(folder)
        for stage in plan.stages:
            compute(stage, store)
        report = grid_report("a large grid", wanted, plan.made_of)
        began = time.monotonic()
        write_grid_report(report, store)
        seconds = time.monotonic() - began
        return seconds, len(store.read(report.digest, "report.html"))
