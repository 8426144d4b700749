"""How much faster several Ray nodes generate than one: the same data set on nodes of one core each.

Each cluster is one of ``advfeat up``: Prefect server, S3 and Ray nodes are processes of their own. All of
them run on as many of this machine's cores as the cluster has nodes, as on machines of one core each: on
cores that are left over, the servers would cost a small cluster nothing, and a large one its nodes' time.
What counts is the time from the source model's to the data set's arrival in the store, as ``advfeat ls``
tells it, so with all that it costs to hand shards out and to join them.
"""

import contextlib
import json
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import numpy as np
from pydantic import Field

from advfeat.spec import Spec
from benchmarks.command import advfeat, assigned
from benchmarks.options import Numbers
from benchmarks.table import Table, figure

_SHARDS = 8
_IMAGES = 1024  # as many batches as shards, so that shards are alike


class Settings(Spec):
    """How large the data set is and how often it is made."""

    node_counts: Numbers = Field(default=(1, 2), min_length=2, description="numbers of nodes")
    node_steps: int = Field(default=4000, ge=1, description="attack steps of the data set made on nodes")
    node_rounds: int = Field(default=3, ge=1, description="how often each number of nodes makes it")


QUICK = Settings(node_steps=10, node_rounds=1)


class Figures(Spec):
    """Seconds of every round, by number of nodes."""

    settings: Settings
    seconds: tuple[tuple[float, ...], ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        medians = [float(np.median(found)) for found in self.seconds]
        return [
            Table(
                title="Generation on nodes of one core",
                columns=("nodes", "s", "fastest to slowest", "times as fast"),
                rows=tuple(
                    (
                        str(nodes),
                        figure(median),
                        f"{figure(min(found))} to {figure(max(found))}",
                        f"{medians[0] / median:.2f}",
                    )
                    for nodes, median, found in zip(
                        self.settings.node_counts, medians, self.seconds, strict=True
                    )
                ),
                note=f"D_rand of {_IMAGES:,} digits, {self.settings.node_steps:,} steps, {_SHARDS} shards; "
                "medians of alternating rounds. A cluster with its Prefect server, S3 and Ray's head runs on "
                "as many cores as it has nodes.",
            )
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Generate on clusters of each size in turn, as often as asked for."""
    seconds: list[list[float]] = [[] for _ in settings.node_counts]
    for number in range(settings.node_rounds):
        for nodes, found in zip(settings.node_counts, seconds, strict=True):
            with _on_cores(nodes):
                found.append(_generation_seconds(nodes, settings.node_steps))
            say(f"round {number + 1}, nodes {nodes}: {found[-1]:.1f} s")
    return Figures(settings=settings, seconds=tuple(map(tuple, seconds)))


@contextlib.contextmanager
def _on_cores(count: int) -> Iterator[None]:
    """Let what is started meanwhile run on so many of the cores that this process may use."""
    usable = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(usable)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, usable)


def _generation_seconds(nodes: int, steps: int) -> float:
    settings = (
        *("recipes=[d_rand]", "seeds=[0]", f"shards={_SHARDS}", f"data.train_size={_IMAGES}"),
        *("source.epochs=4", "target.epochs=1", f"attack.steps={steps}"),
    )
    with tempfile.TemporaryDirectory(prefix="advfeat-nodes-") as name:
        folder = Path(name)
        try:
            advfeat(["up", "--workers", str(nodes), "--cores-per-worker", "1"], folder)
            lines = (folder / ".advfeat" / "cluster" / "env").read_text(encoding="utf-8").splitlines()
            cluster = dict(shlex.split(line)[1].split("=", 1) for line in lines)
            advfeat(["run", "digits", *assigned(settings)], folder, cluster)
            artifacts = json.loads(advfeat(["ls", "--json"], folder, cluster))
        finally:
            advfeat(["down", "--delete"], folder)
    created = {found["stage"]: datetime.fromisoformat(found["created"]) for found in artifacts}
    return (created["dataset"] - created["source_model"]).total_seconds()
