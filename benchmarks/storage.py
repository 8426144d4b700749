"""The store beside plain transfers of the same bytes, and a million images in bounded memory.

An artifact of real images (uint8) is written through ``write_streamed`` and read through
``stored_tables``: encoded, hashed and uploaded; fetched, checked and decoded. Beside it s3fs puts and gets
the same files, and a local store and plain copies do so on disk; all take turns within each round, on a
SeaweedFS of their own on the loopback. Then a data set larger than the memory that is allowed is written,
verified and read, each in a process of its own, whose peak is told.
"""

import multiprocessing
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from advfeat.datasets.stored_rows import stored_tables
from advfeat.errors import DamagedArtifactError
from advfeat.files.parts import ROWS_PER_GROUP
from advfeat.files.tables import bytes_column, image_shape, with_image_shape, write_split
from advfeat.spec import Spec
from advfeat.storage import Stage, Store
from benchmarks import measure
from benchmarks.table import Table, figure, mebibytes, percent

if TYPE_CHECKING:
    from tests.servers import ObjectStore

_CLASSES = 10
_VOLUMES = 300
"""Of SeaweedFS, 64 MB each: room for all rounds, as what is deleted there stays for a while."""


class Settings(Spec):
    """How much is stored."""

    rows: int = Field(default=1_000_000, ge=1, description="images of the large data set")
    timed_rows: int = Field(default=107_520, ge=1, description="images of the data set that is timed")
    side: int = Field(default=32, ge=1, description="pixels a side, three channels")
    rounds: int = Field(default=5, ge=1, description="rounds that are counted")


QUICK = Settings(rows=5000, timed_rows=5000, rounds=1)


class Rate(Spec):
    """How fast some bytes went one way, and what share that is of the plain transfer beside it."""

    way: str
    stored_bytes: int
    seconds: float
    share: float | None
    lowest: float | None
    highest: float | None


class Step(Spec):
    """What one process did with the large data set."""

    name: str
    seconds: float
    peak_bytes: int


class Figures(Spec):
    """All of it."""

    settings: Settings
    rates: tuple[Rate, ...]
    large_bytes: int
    steps: tuple[Step, ...]

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        settings = self.settings
        return [
            Table(
                title="Throughput of the store",
                columns=("", "MB/s", "of the plain transfer", "lowest to highest round"),
                rows=tuple(
                    (
                        rate.way,
                        figure(rate.stored_bytes / rate.seconds / 1e6),
                        "" if rate.share is None else percent(rate.share),
                        ""
                        if rate.lowest is None or rate.highest is None
                        else f"{percent(rate.lowest)} to {percent(rate.highest)}",
                    )
                    for rate in self.rates
                ),
                note=f"{settings.timed_rows:,} images of {settings.side} pixels a side, uint8; medians of "
                f"{settings.rounds} alternating rounds; MB as stored. SeaweedFS on the same machine.",
            ),
            Table(
                title=f"{settings.rows:,} images in bounded memory",
                columns=("", "s", "MB/s", "peak memory, MiB"),
                rows=tuple(
                    (
                        step.name,
                        figure(step.seconds),
                        figure(self.large_bytes / step.seconds / 1e6),
                        mebibytes(step.peak_bytes),
                    )
                    for step in self.steps
                ),
                note=f"{self.large_bytes / 1e9:.2f} GB on S3, each step in a process of its own, "
                "torch and all libraries included; images are drawn at random as they are written.",
            ),
        ]


def run(settings: Settings, *, say: Callable[[str], None]) -> Figures:
    """Time transfers side by side, then take the large data set through a store on S3."""
    with tempfile.TemporaryDirectory(prefix="advfeat-storage-") as name, on_s3(Path(name)) as bucket:
        folder = Path(name)
        say("preparing")
        timed = _Transfers(settings, Store(f"s3://{bucket}/timed"), Store(str(folder / "store")), folder)
        rates = timed.measured(settings.rounds, say)
        large = Store(f"s3://{bucket}/large")
        steps = []
        for step in (_write, _verify, _read):
            say(f"{settings.rows:,} images: {step.__name__.strip('_')}")
            steps.append(_in_own_process(step, large.uri, settings))
        stored = sum(manifest.bytes for manifest in large.manifests())
    return Figures(settings=settings, rates=rates, large_bytes=stored, steps=tuple(steps))


class _Transfers:
    """One data set, there to be written and read in several ways."""

    def __init__(self, settings: Settings, remote: Store, local: Store, folder: Path) -> None:
        self._rows, self._side = settings.timed_rows, settings.side
        self._remote, self._local, self._plain = remote, local, folder / "plain"
        self._numbers = count()
        self._tables = list(_synthetic(self._rows, self._side))
        self._stored = {store: self._write(store) for store in (remote, local)}
        self._files = remote.manifest(self._stored[remote]).files
        self._plain.mkdir()
        for file in self._files:
            (self._plain / file.path).write_bytes(remote.read_file(self._stored[remote], file))
        self._put()

    def measured(self, rounds: int, say: Callable[[str], None]) -> tuple[Rate, ...]:
        """Return the rates of all ways, the stores' beside those of plain transfers."""
        ways: dict[str, Callable[[], object]] = {
            "write to S3": partial(self._write, self._remote),
            "s3fs put": self._put,
            "read from S3": partial(self._read, self._remote),
            "s3fs get": self._get,
            "write to disk": partial(self._write, self._local),
            "copy on disk": self._copy,
            "read from disk": partial(self._read, self._local),
            "read files from disk": self._read_plain,
        }
        plain = dict(zip(list(ways)[::2], list(ways)[1::2], strict=True))
        taken: list[dict[str, float]] = []
        for one in measure.alternate(ways, rounds, torch.device("cpu")):
            taken.append(one)
            say(f"round {len(taken)} of {rounds}")
        seconds = measure.medians(taken)
        size = sum(file.bytes for file in self._files)

        def rate(way: str) -> Rate:
            shares = [one[plain[way]] / one[way] for one in taken] if way in plain else []
            return Rate(
                way=way,
                stored_bytes=size,
                seconds=seconds[way],
                share=float(np.median(shares)) if shares else None,
                lowest=min(shares, default=None),
                highest=max(shares, default=None),
            )

        return tuple(map(rate, ways))

    def _write(self, store: Store) -> str:
        return _write_tables(store, self._tables, self._rows, {"number": next(self._numbers)})

    def _read(self, store: Store) -> None:
        rows = sum(table.num_rows for table in stored_tables(store, self._stored[store]))
        assert rows == self._rows

    def _put(self) -> None:
        for file in self._files:
            self._remote.fs.put_file(str(self._plain / file.path), f"{self._remote.root}/plain/{file.path}")

    def _get(self) -> None:
        for file in self._files:
            target = self._plain / "got"
            self._remote.fs.get_file(f"{self._remote.root}/plain/{file.path}", str(target))
            target.unlink()

    def _copy(self) -> None:
        for file in self._files:
            target = self._plain / uuid.uuid4().hex
            shutil.copyfile(self._plain / file.path, target)
            target.unlink()

    def _read_plain(self) -> None:
        for file in self._files:
            (self._plain / file.path).read_bytes()


def _synthetic(rows: int, side: int) -> Iterator[pa.Table]:
    """Yield row groups of noise under labels, drawn as they are asked for."""
    rng = np.random.default_rng(0)
    for start in range(0, rows, ROWS_PER_GROUP):
        size = min(ROWS_PER_GROUP, rows - start)
        images = rng.integers(0, 256, (size, 3, side, side), np.uint8)
        columns = {"image": bytes_column(images), "label": pa.array(rng.integers(0, _CLASSES, size))}
        yield with_image_shape(pa.table(columns), images.shape[1:])


def _write_tables(store: Store, tables: Iterable[pa.Table], rows: int, parameters: dict[str, Any]) -> str:
    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, Any]:
        first = next(groups := iter(tables))
        write_split(chain([first], groups), folder, "train", finished)
        classes = [str(number) for number in range(_CLASSES)]
        return {"train_size": rows, "test_size": 0, "image_shape": image_shape(first), "classes": classes}

    given = {"identity": parameters, "train_size": None, "test_size": None}
    stage = Stage(kind="images", title="synthetic images", parameters=given)
    return store.write_streamed(stage, build).digest


def _write(uri: str, settings: Settings) -> None:
    tables = _synthetic(settings.rows, settings.side)
    _write_tables(Store(uri), tables, settings.rows, {"large": settings.rows})


def _verify(uri: str, settings: Settings) -> None:
    del settings
    store = Store(uri)
    (digest,) = store.digests()
    if (damage := store.verify(digest)) is not None:
        raise DamagedArtifactError(damage)


def _read(uri: str, settings: Settings) -> None:
    store = Store(uri)
    (digest,) = store.digests()
    assert sum(table.num_rows for table in stored_tables(store, digest)) == settings.rows


def _in_own_process(work: Callable[[str, Settings], None], uri: str, settings: Settings) -> Step:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        seconds, peak = pool.submit(_measured, work, uri, settings).result()
    return Step(name=work.__name__.strip("_"), seconds=seconds, peak_bytes=peak)


def _measured(work: Callable[[str, Settings], None], uri: str, settings: Settings) -> tuple[float, int]:
    began = time.perf_counter()
    work(uri, settings)
    return time.perf_counter() - began, measure.resident("VmHWM")


@contextmanager
def on_s3(folder: Path) -> Iterator[str]:
    """Start SeaweedFS, lead this process and those it starts to it, and give the bucket's name."""
    from tests.servers import BUCKET

    with s3_served(folder):
        yield BUCKET


@contextmanager
def s3_served(folder: Path) -> "Iterator[ObjectStore]":
    """Start SeaweedFS and lead this process and those it starts to it."""
    from tests.servers import object_store

    before = dict(os.environ)
    served = object_store(folder / "seaweedfs", volumes=_VOLUMES)
    with served.server.running():
        os.environ.update(served.variables)
        try:
            yield served
        finally:
            os.environ.clear()
            os.environ.update(before)
