"""What commands cost beside a store that many runs have filled, on S3.

The store holds finished runs of the digits that differ in their images and in eps: manifests, small payloads,
records and plans, as runs leave them, without their computation. Each command is one as users type it, in a
process of its own, and is timed on an empty store and on the full one in turns.
"""

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from pydantic import Field

from advfeat.planning import build_plan, load_experiment
from advfeat.spec import Spec
from advfeat.storage import Manifest, Stage, Store
from advfeat.storage.manifest import StoredFile
from advfeat.storage.runs import RunRecord, StageCounts, keep_plan, keep_record
from benchmarks.command import advfeat
from benchmarks.storage import on_s3
from benchmarks.table import Table, figure

_MEASURED = {
    **{"train_size": 200, "test_size": 100, "image_shape": [1, 8, 8], "classes": ["0", "1"]},
    **{"train_accuracy": 0.5, "test_accuracy": 0.5, "epoch_losses": []},
}
_PAYLOAD = b"a payload of a few bytes"
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
    with tempfile.TemporaryDirectory(prefix="advfeat-full-") as name, on_s3(Path(name)) as bucket:
        full, empty = Store(f"s3://{bucket}/full"), Store(f"s3://{bucket}/empty")
        artifacts, runs, digest = 0, 0, ""
        for number, stages in enumerate(_plans()):
            if artifacts >= settings.artifacts:
                break
            digest = _keep(full, f"run-{number:06}", number, stages)
            artifacts, runs = artifacts + len(stages), runs + 1
            if number % 100 == 0:
                say(f"{artifacts:,} artifacts")
        commands: dict[str, Sequence[str]] = {
            "plan, all new": _NEW,
            "plan --json": (*_NEW, "--json"),
            "runs": ("runs",),
            "show": ("show", digest[:12]),
            "report of a run": ("report", f"run-{runs - 1:06}"),
        }
        timings = []
        for command, words in commands.items():
            say(command)
            on_empty = words[0] in ("plan", "runs")
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


def _plans() -> Iterator[tuple[Stage, ...]]:
    """Yield the stages of runs of which none has a data set of another."""
    number = 0
    while True:
        settings = [f"data.train_size={200 + number % 900}", f"attack.eps={0.5 + 0.01 * (number // 900):.2f}"]
        yield build_plan(load_experiment("digits", settings)).stages
        number += 1


def _keep(store: Store, run: str, number: int, stages: Sequence[Stage]) -> str:
    """Write what a finished run leaves; return the digest of its report."""
    written: dict[str, bytes] = {}
    sha256 = hashlib.sha256(_PAYLOAD).hexdigest()
    for stage in stages:
        manifest = Manifest(
            stage=stage.kind,
            version=stage.version,
            digest=stage.digest,
            parameters=stage.parameters,
            inputs=stage.inputs,
            files=(StoredFile(name="rows.json", path="rows.json", bytes=len(_PAYLOAD), sha256=sha256),),
            metrics=_MEASURED,
            versions={},
            seconds=1.0,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        ).sealed()
        folder = f"{store.root}/artifacts/{stage.digest}"
        written |= {
            f"{folder}/rows.json": _PAYLOAD,
            f"{folder}/manifest.json": manifest.model_dump_json().encode(),
        }
    store.fs.pipe(written)
    keep_plan(store, run, stages)
    began = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)).isoformat(timespec="seconds")
    counts = StageCounts(total=len(stages), computed=len(stages), cached=0)
    report = stages[-1].digest
    record = RunRecord(run=run, flow="learning-from-errors", title="digits", state="completed", began=began)
    keep_record(store, record.model_copy(update={"seconds": 60.0, "stages": counts, "report": report}))
    return report
