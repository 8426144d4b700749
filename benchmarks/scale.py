"""What orchestration costs: the real flow, store, Prefect server and Ray, with shards that compute nothing.

A flow walks a plan of 1, 10, 100, 1,000 and more shards, each of which writes a few bytes into a local
store. The first walk is not counted: it starts the workers. Cost per shard is a walk's time by its shards;
the rate at the margin is that of the shards beyond the walk before. Memory is the driver's largest so far,
and the server's after the walk.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from pydantic import Field

from advfeat.spec import Spec
from benchmarks.options import Numbers
from benchmarks.table import Table, figure, mebibytes


class Settings(Spec):
    """How many shards are walked."""

    shard_counts: Numbers = Field(default=(1, 10, 100, 1000), min_length=2, description="numbers of shards")


QUICK = Settings(shard_counts=(1, 10))


class Walked(Spec):
    """One walk."""

    shards: int
    seconds: float
    driver_bytes: int
    server_bytes: int


class Figures(Spec):
    """All walks."""

    settings: Settings
    walks: tuple[Walked, ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        rows = []
        before = Walked(shards=0, seconds=0, driver_bytes=0, server_bytes=0)
        for walk in self.walks:
            margin = (walk.seconds - before.seconds) / (walk.shards - before.shards)
            rows.append(
                (
                    f"{walk.shards:,}",
                    figure(walk.seconds),
                    figure(1000 * walk.seconds / walk.shards),
                    figure(1000 * margin),
                    mebibytes(walk.driver_bytes),
                    mebibytes(walk.server_bytes),
                )
            )
            before = walk
        return [
            Table(
                title="Orchestration with shards that compute nothing",
                columns=("shards", "s", "ms a shard", "at the margin, ms", "driver MiB", "server MiB"),
                rows=tuple(rows),
                note="Prefect server with SQLite, Ray and a store on the local disk, all on this machine.",
            )
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Walk plans of growing numbers of shards."""
    from advfeat.cluster.embedded import local_ray
    from advfeat.flows.prefect_api import prefect_api

    with tempfile.TemporaryDirectory(prefix="advfeat-scale-") as folder, prefect_api() as server, local_ray():
        assert server is not None, "unset PREFECT_API_URL: the memory of a server of its own is measured"
        server.wait_until_ready()
        say("starting workers")
        _walk(4, Path(folder))
        walks = []
        for shards in settings.shard_counts:
            say(f"{shards:,} shards")
            seconds = _walk(shards, Path(folder))
            walks.append(
                Walked(
                    shards=shards,
                    seconds=seconds,
                    driver_bytes=1024 * getrusage(RUSAGE_SELF).ru_maxrss,
                    server_bytes=_memory_of_family(server.pid),
                )
            )
    return Figures(settings=settings, walks=tuple(walks))


def _walk(shards: int, folder: Path) -> float:
    from prefect import flow
    from prefect_ray import RayTaskRunner

    from advfeat.flows.walk import walk
    from advfeat.tasks.stage_task import stage_task

    real = dict(walk.TASKS)
    walk.TASKS.update(
        {"shard": stage_task("no-op shard")(_no_op), "leakage": stage_task("no-op set")(_no_op)}
    )
    began = time.monotonic()
    try:
        flow(name="scale", task_runner=RayTaskRunner())(walk_no_op_shards)(shards, str(folder))
    finally:
        walk.TASKS.update(real)
    return time.monotonic() - began


def walk_no_op_shards(shards: int, folder: str) -> None:
    """Walk a plan of so many shards, as the flow of an experiment does; it travels by name, not by value."""
    from advfeat.flows.display.terminal import Display
    from advfeat.flows.walk.walk import Walk
    from advfeat.planning import Plan, outlook
    from advfeat.storage import Stage, Store

    parts = tuple(
        Stage(kind="shard", title=f"no-op shard {number}", parameters={"number": number, "of": shards})
        for number in range(shards)
    )
    whole = Stage(
        kind="leakage",
        title="no-op data set",
        parameters={"of": shards},
        parts=tuple(part.digest for part in parts),
    )
    store = Store(f"{folder}/store-{shards}")
    outlooks = outlook(Plan((*parts, whole)), store)
    with Display(outlooks) as display:
        Walk(store, display).run(outlooks)


def _no_op(stage: Any, store: str, after: list[Any]) -> dict[str, Any]:  # noqa: ARG001 — Prefect draws the graph of it
    from advfeat.storage import Store

    def build(folder: Path) -> dict[str, Any]:
        (folder / "nothing.json").write_text("{}", encoding="utf-8")
        return {}

    return Store(store).write_stage(stage, build).model_dump()


def _memory_of_family(pid: int) -> int:
    import psutil

    process = psutil.Process(pid)
    return sum(member.memory_info().rss for member in (process, *process.children(recursive=True)))
