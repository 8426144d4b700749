"""A grid of thousands of points: how long it takes to lay out and to look for in a store, and in what memory.

Each time is of a process of its own, which does what ``advfeat grid`` does before it computes: experiments
are checked, stages laid out, the plan written, and the store looked through. The full store holds all of the
stages, as after a run that was killed at its end; what stands there for them was not computed.
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise

from pydantic import Field

from advfeat.planning import (
    Grid,
    Plan,
    build_grid_plan,
    grid_report,
    load_grid,
    outlook,
    points,
    title_of,
)
from advfeat.spec import Spec
from advfeat.storage import Store
from advfeat.storage.runs import keep_plan
from benchmarks import measure
from benchmarks.full_store import keep_artifact
from benchmarks.table import Table, figure, mebibytes

_SEEDS = 5


class Settings(Spec):
    """How large the grid is."""

    points: int = Field(default=5000, ge=_SEEDS, multiple_of=_SEEDS, description="experiments of the grid")
    shards_each: int = Field(default=10, ge=1, description="shards of each of its data sets")


QUICK = Settings(points=100)


class Planned(Spec):
    """One process: seconds of its steps, and the most memory that it filled."""

    store: str
    checked: float
    laid_out: float
    written: float
    looked_up: float
    cached: int
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Seconds of all steps."""
        return self.checked + self.laid_out + self.written + self.looked_up


class Figures(Spec):
    """All of it."""

    settings: Settings
    stages: int
    planned: tuple[Planned, ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        return [
            Table(
                title=f"A grid of {self.settings.points:,} points, {self.stages:,} stages",
                columns=("store", "check", "lay out", "write", "look up", "in all, s", "peak, MiB"),
                rows=tuple(
                    (
                        each.store,
                        figure(each.checked),
                        figure(each.laid_out),
                        figure(each.written),
                        figure(each.looked_up),
                        figure(each.seconds),
                        mebibytes(each.peak_bytes),
                    )
                    for each in self.planned
                ),
                note="Seconds of one process each, all libraries included; local stores.",
            )
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Plan the grid on an empty store and on one that holds all of it."""
    with tempfile.TemporaryDirectory(prefix="advfeat-thousands-") as empty:
        say("on an empty store")
        first = _in_own_process(empty, "empty", settings)
    with tempfile.TemporaryDirectory(prefix="advfeat-thousands-") as full:
        say("filling a store")
        stages = build_grid_plan(points("d_det", _grid(settings))).stages
        for stage in stages:
            keep_artifact(Store(full), stage)
        say("on the full store")
        again = _in_own_process(full, "holds all", settings)
    return Figures(settings=settings, stages=len(stages), planned=(first, again))


def _in_own_process(folder: str, store: str, settings: Settings) -> Planned:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_planned, folder, store, settings).result()


def _planned(folder: str, store: str, settings: Settings) -> Planned:
    place, times = Store(folder), [time.perf_counter()]
    grid = _grid(settings)
    wanted = points("d_det", grid)
    times.append(time.perf_counter())
    plan = build_grid_plan(wanted)
    stages = (*plan.stages, grid_report(title_of("d_det", grid), wanted, plan.made_of))
    times.append(time.perf_counter())
    keep_plan(place, "run", stages)
    times.append(time.perf_counter())
    entries = outlook(Plan(stages), place)
    times.append(time.perf_counter())
    checked, laid_out, written, looked_up = (after - before for before, after in pairwise(times))
    return Planned(
        store=store,
        checked=checked,
        laid_out=laid_out,
        written=written,
        looked_up=looked_up,
        cached=sum(entry.state == "cached" for entry in entries),
        peak_bytes=measure.resident("VmHWM"),
    )


def _grid(settings: Settings) -> Grid:
    eps = [round(0.001 * number, 3) for number in range(1, settings.points // _SEEDS + 1)]
    axes = [f"eps={eps}", f"seeds={list(range(_SEEDS))}", f"limit={settings.points}"]
    return load_grid("d_det", [*axes, f"settings=[shards={settings.shards_each}]"])
