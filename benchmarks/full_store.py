"""What commands cost beside a store that many runs have filled, on S3.

The store holds finished runs of the digits that differ in their images and in eps: manifests, small payloads,
records and plans, as runs leave them, without their computation. Both it and the empty one hold besides what
a tiny run computed, which is run again. Each command is one as users type it, in a process of its own, and is
timed on the empty store and on the full one in turns.
"""

import hashlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from advfeat.cluster.object_store import weed
from advfeat.planning import build_plan, load_experiment
from advfeat.spec import Spec
from advfeat.stages.inline import compute
from advfeat.storage import Manifest, Stage, Store
from advfeat.storage.manifest import StoredFile
from advfeat.storage.runs import RunRecord, StageCounts, keep_plan, keep_record
from benchmarks.command import advfeat, assigned
from benchmarks.storage import s3_served
from benchmarks.table import Table, figure

if TYPE_CHECKING:
    from tests.servers import ObjectStore

_MEASURED = {
    **{"train_size": 200, "test_size": 100, "image_shape": [1, 8, 8], "classes": ["0", "1"]},
    **{"train_accuracy": 0.5, "test_accuracy": 0.5, "epoch_losses": []},
}
_PAYLOAD = b"a payload of a few bytes"
_FILE = StoredFile(
    name="rows.json", path="rows.json", bytes=len(_PAYLOAD), sha256=hashlib.sha256(_PAYLOAD).hexdigest()
)
_TINY = (
    *("recipes=[clean]", "seeds=[0]", "data.train_size=64", "data.test_size=64"),
    *("source.epochs=1", "target.epochs=1"),
)
_CACHED = ("run", "digits", *assigned(_TINY))
_NEW = ("plan", "digits", "--set", "attack.eps=1.234", "--set", "data.train_size=1100")


class Settings(Spec):
    """How full the store is."""

    artifacts: int = Field(default=100_000, ge=100, description="artifacts of the full store, about")
    store_rounds: int = Field(default=3, ge=1, description="rounds of commands that are counted")


QUICK = Settings(artifacts=1000, store_rounds=1)


class Timing(Spec):
    """One command: seconds on the empty and on the full store, each round."""

    command: str
    empty: tuple[float, ...]
    full: tuple[float, ...]


class Figures(Spec):
    """All of it."""

    settings: Settings
    artifacts: int
    runs: int
    timings: tuple[Timing, ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        return [
            Table(
                title=f"Commands beside {self.artifacts:,} artifacts of {self.runs:,} runs on S3",
                columns=("", "empty store, s", "full store, s", "first time, s"),
                rows=tuple(
                    (
                        timing.command,
                        figure(float(np.median(timing.empty))),
                        figure(float(np.median(timing.full))),
                        figure(timing.full[0]),
                    )
                    for timing in self.timings
                ),
                note=f"Medians of {self.settings.store_rounds} rounds, the start of Python included. "
                "SeaweedFS on the same machine.",
            )
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Fill a store, then time commands on it and on an empty one."""
    from tests.servers import BUCKET

    with tempfile.TemporaryDirectory(prefix="advfeat-full-") as name, s3_served(Path(name)) as served:
        full, empty = Store(f"s3://{BUCKET}/full"), Store(f"s3://{BUCKET}/empty")
        began = time.monotonic()
        local = Store(str(Path(name) / "full"))
        artifacts, runs, digest = 0, 0, ""
        for number, stages in enumerate(_plans()):
            if artifacts >= settings.artifacts:
                break
            digest = _keep_run(local, number, stages)
            artifacts, runs = artifacts + len(stages), runs + 1
            if number % 100 == 0:
                say(f"{artifacts:,} artifacts")
        say("copied to S3")
        small = Store(str(Path(name) / "empty"))
        for stage in build_plan(load_experiment("digits", _TINY)).stages:
            compute(stage, small)
        shutil.copytree(small.root, local.root, dirs_exist_ok=True)
        for store in (small, local):
            _copy(Path(store.root), served)
        say(f"made in {time.monotonic() - began:.0f} s")
        commands: dict[str, Sequence[str]] = {
            "plan, all new": _NEW,
            "plan --json": (*_NEW, "--json"),
            "runs": ("runs",),
            "show": ("show", digest[:12]),
            "report of a run": ("report", f"run-{runs - 1:06}"),
            "run, all cached": _CACHED,
        }
        timings = []
        for command, words in commands.items():
            say(command)
            on_empty = words[0] in ("plan", "run", "runs")
            seconds = [
                (_timed(words, empty, Path(name)) if on_empty else 0.0, _timed(words, full, Path(name)))
                for _ in range(settings.store_rounds)
            ]
            before, after = zip(*seconds, strict=True)
            timings.append(Timing(command=command, empty=before, full=after))
    return Figures(settings=settings, artifacts=artifacts, runs=runs, timings=tuple(timings))


def _timed(words: Sequence[str], store: Store, folder: Path) -> float:
    began = time.monotonic()
    keys = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    advfeat([*words, "--store", store.uri], folder, keys)
    return time.monotonic() - began


def _copy(local: Path, served: "ObjectStore") -> None:
    """Copy a store to S3 by SeaweedFS' own means, which are many times as fast as requests to S3."""
    command = [weed() or "weed", f"-config_dir={served.folder}", "filer.copy", "-c", "32"]
    subprocess.run([*command, str(local), served.inside], check=True, capture_output=True)


def _plans() -> Iterator[tuple[Stage, ...]]:
    """Yield the stages of runs of which none has an artifact of another."""
    number = 0
    while True:
        settings = [f"data.train_size={200 + number % 900}", f"data.test_size={100 + number // 900}"]
        yield build_plan(load_experiment("digits", settings)).stages
        number += 1


def keep_artifact(store: Store, stage: Stage) -> None:
    """Write what stands for a finished stage on this machine, without its computation."""
    manifest = Manifest(
        stage=stage.kind,
        version=stage.version,
        digest=stage.digest,
        parameters=stage.parameters,
        inputs=stage.inputs,
        files=(_FILE,),
        metrics=_MEASURED,
        versions={},
        seconds=1.0,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    ).sealed()
    folder = Path(store.root) / "artifacts" / stage.digest
    folder.mkdir(parents=True)
    (folder / _FILE.path).write_bytes(_PAYLOAD)
    (folder / "manifest.json").write_bytes(manifest.model_dump_json().encode())


def _keep_run(store: Store, number: int, stages: Sequence[Stage]) -> str:
    """Write what a finished run leaves; return the digest of its report."""
    for stage in stages:
        keep_artifact(store, stage)
    run = f"run-{number:06}"
    keep_plan(store, run, stages)
    began = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat(timespec="seconds")
    counts = StageCounts(total=len(stages), computed=len(stages), cached=0)
    report = stages[-1].digest
    record = RunRecord(run=run, flow="learning-from-errors", title="digits", state="completed", began=began)
    keep_record(store, record.model_copy(update={"seconds": 60.0, "stages": counts, "report": report}))
    return report
