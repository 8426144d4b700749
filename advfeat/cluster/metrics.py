"""Figures of stages in Prometheus' form, which every node of a Ray cluster hands out beside Ray's own.

Ray puts ``ray_`` before their names, and ``_total`` behind those of counters. Where no Ray runs, or its
metrics are off, they go nowhere.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import ray
from ray.util.metrics import Counter, Histogram

from advfeat.progress import Progress

_SECONDS = [1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0, 3000.0, 10_000.0, 30_000.0]


def count_stage(kind: str, how: str) -> None:
    """Count a stage that is in the store: ``cached``, ``computed`` or ``computed by another run``."""
    _count("advfeat_stages", "stages that runs found or brought into the store", {"kind": kind, "how": how})


def count_failure(kind: str) -> None:
    """Count a stage that a run gave up."""
    _count("advfeat_stage_failures", "stages that runs gave up", {"kind": kind})


def count_run(flow: str, state: str) -> None:
    """Count a run that has ended."""
    _count("advfeat_runs", "runs that have ended", {"flow": flow, "state": state})


def counting_passes(kind: str, progress: Progress) -> Progress:
    """Return a function that reports progress and counts the passes of images through a network."""
    counted = 0

    def report(done: int, total: int) -> None:
        nonlocal counted
        if done > counted:
            name, what = "advfeat_image_passes", "passes of an image through a network"
            _counter(name, what, ("kind",)).inc(done - counted, {"kind": kind})
            counted = done
        progress(done, total)

    return report


@contextmanager
def timed(kind: str) -> Iterator[None]:
    """Observe how long the computation of a stage takes, whether it succeeds or not."""
    began = time.monotonic()
    try:
        yield
    finally:
        if ray.is_initialized():
            _seconds().observe(time.monotonic() - began, {"kind": kind})


def _count(name: str, what: str, tags: dict[str, str]) -> None:
    if ray.is_initialized():
        _counter(name, what, tuple(tags)).inc(1, tags)


@cache
def _counter(name: str, what: str, tags: tuple[str, ...]) -> Counter:
    return Counter(name, what, tags)


@cache
def _seconds() -> Histogram:
    return Histogram("advfeat_stage_seconds", "seconds that a stage's computation took", _SECONDS, ("kind",))
