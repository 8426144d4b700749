"""Clocks and scales: seconds of a call, its working memory, and rounds in which candidates alternate."""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

import torch

Name = TypeVar("Name", bound=Hashable)
Result = TypeVar("Result")

_PROCESS = Path("/proc/self")


def timed(work: Callable[[], Result], where: torch.device) -> tuple[Result, float]:
    """Call once and return the result and the seconds, a GPU's queue included."""
    synchronize(where)
    start = time.perf_counter()
    result = work()
    synchronize(where)
    return result, time.perf_counter() - start


def synchronize(where: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def alternate(
    candidates: Mapping[Name, Callable[[], object]], rounds: int, where: torch.device
) -> Iterator[dict[Name, float]]:
    """Yield the seconds of every candidate, round after round.

    Each round begins with another candidate, so that neither the machine's drift nor a place in
    the round favours one.
    """
    names = list(candidates)
    for number in range(rounds):
        first = number % len(names)
        yield {name: timed(candidates[name], where)[1] for name in names[first:] + names[:first]}


def medians(rounds: Sequence[Mapping[Name, float]]) -> dict[Name, float]:
    """Return each candidate's median over the rounds."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


class Laps:
    """Listens to the progress of work: the time until ``first`` is done, and the rate after that."""

    def __init__(self, first: int, where: torch.device) -> None:
        self._first, self._where = first, where
        self._start = time.perf_counter()
        self._lap: tuple[int, float] | None = None
        self._end: tuple[int, float] | None = None

    def __call__(self, done: int, total: int) -> None:
        """Take note of how much is done."""
        del total
        if self._lap is None and done >= self._first:
            self._lap = done, self._seconds()
        self._end = done, 0.0

    def finish(self) -> None:
        """Take the time at which all is done."""
        if self._end is not None:
            self._end = self._end[0], self._seconds()

    @property
    def first_seconds(self) -> float:
        """The seconds of the first lap."""
        return float("nan") if self._lap is None else self._lap[1]

    @property
    def rate(self) -> float | None:
        """How much was done a second after the first lap; None if that was all."""
        if self._lap is None or self._end is None or self._end[0] == self._lap[0]:
            return None
        return (self._end[0] - self._lap[0]) / (self._end[1] - self._lap[1])

    def _seconds(self) -> float:
        synchronize(self._where)
        return time.perf_counter() - self._start


def working_memory(work: Callable[[], object], where: torch.device) -> int | None:
    """Return how many bytes a call needs at its peak beyond those in use before it; None if unknown.

    On a CPU this is the peak of the resident memory, after the allocator has given back what it
    held; on a GPU the peak of torch's allocated memory.
    """
    gc.collect()
    if where.type == "cuda":
        torch.cuda.synchronize(where)
        torch.cuda.reset_peak_memory_stats(where)
        before = torch.cuda.memory_allocated(where)
        work()
        torch.cuda.synchronize(where)
        return torch.cuda.max_memory_allocated(where) - before
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
    try:
        (_PROCESS / "clear_refs").write_text("5", encoding="utf-8")
        before = resident("VmRSS")
        work()
        return resident("VmHWM") - before
    except (OSError, KeyError):
        return None


def allocated(where: torch.device) -> int:
    """Return the bytes that torch holds on a GPU; 0 on a CPU."""
    return torch.cuda.memory_allocated(where) if where.type == "cuda" else 0


def resident(field: Literal["VmRSS", "VmHWM"]) -> int:
    """Return the bytes of memory that this process has now, or had at its peak; raises ``OSError``."""
    lines = (_PROCESS / "status").read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return 1024 * int(fields[field].split()[0])
