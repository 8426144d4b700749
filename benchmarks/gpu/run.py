"""Runs part after part, each in its share of the time; what fails is one line, and the next part goes on."""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch
from pydantic import ValidationError

from advfeat import data
from advfeat.errors import InputError, first_line
from advfeat.hardware import device
from advfeat.spec import DataSpec
from advfeat.storage import Store
from benchmarks import attacks, machine
from benchmarks.gpu import card, first_call, own_tests, patterns, recipes, setting, steps, trainings
from benchmarks.gpu.bench import Bench, free_memory
from benchmarks.gpu.clock import Clock, TimeIsUp, silence
from benchmarks.gpu.command import PARTS
from benchmarks.gpu.record import Figures, Outcome, Record
from benchmarks.options import command_line
from benchmarks.workload import Judge

_KEPT_FOR_THE_END = 4.0
"""Seconds that no part gets."""

_SECONDS_FOR_A_PEER = 15.0
"""Without so many left, no further library is called for the first time."""

Keep = Callable[[Figures], None]


@dataclass(frozen=True)
class Part:
    """A part: what it does, and how much of the time that is left it may take.

    With less than ``least`` seconds for it, it is not begun. ``skipped`` says why it cannot run at all.
    """

    name: str
    share: float
    least: float
    run: Callable[[Bench, Clock, Keep], None]
    skipped: str | None = None


def run(given: argparse.Namespace, words: Sequence[str]) -> int:
    """Run all parts; return 1 if one failed. Raises ``InputError`` before the first one begins."""
    clock, quick = Clock(given.time_limit), bool(given.quick)
    if device().type == "cpu" and not quick:
        raise InputError(
            "gpu", None, "is not there (torch.cuda.is_available() is False)", "add --quick to try it out"
        )
    chosen = _chosen(given.parts)
    torch.set_num_threads(given.threads or machine.usable_cores())

    def say(text: str) -> None:
        print(f"[{clock.elapsed:5.0f} s, {max(0, clock.left):.0f} s left] {text}", flush=True)

    with tempfile.TemporaryDirectory(prefix="advfeat-gpu-") as folder:
        source = _source(given, Path(folder))
        experiment = setting.experiment(source.model_dump(mode="json"), quick=quick)
        bench = Bench(quick, experiment, Store(str(Path(folder) / "store")), clock, say)
        record = Record(machine.describe(), given.output, command_line(words), clock=clock, quick=quick)
        parts = [part for part in _parts(Path(folder)) if part.name in chosen]
        ended = [_ended(part, bench, clock, record) for part in parts]
    say(f"all is in {record.file}")
    return int("failed" in ended)


def _chosen(parts: str | None) -> tuple[str, ...]:
    """Return the names of the parts to run: all, or those that are named, and the images with them."""
    if parts is None:
        return PARTS
    names = parts.split(",")
    for name in names:
        if name not in PARTS:
            raise InputError("parts", name, "is unknown", f"choose from {', '.join(PARTS)}")
    return (*names, "images")


def _source(given: argparse.Namespace, folder: Path) -> DataSpec:
    """Return the images' source, looked at; raises ``InputError`` if it cannot be read."""
    if given.data is None:
        if not given.quick:
            raise InputError("data", None, "is missing", "add --data SOURCE, such as numpy:cifar10.npz")
        return DataSpec(source=f"numpy:{patterns.write(folder)}")
    train_size = setting.QUICK_TRAIN_SIZE if given.quick else None
    try:
        spec = DataSpec(source=given.data, root=given.data_root, train_size=train_size, test_size=train_size)
        data.open_source(spec).identity()
        data.sizes(spec)
    except ValidationError as error:
        raise InputError(
            "data", given.data, first_line(error), "name a source, such as numpy:FILE.npz"
        ) from None
    except ModuleNotFoundError as error:
        remedy = "install it, or carry the images as numpy:FILE.npz, which needs nothing"
        raise InputError("data", given.data, f"needs {error.name}, which is not installed", remedy) from None
    return spec


def _parts(folder: Path) -> list[Part]:
    without_gpu = None if device().type == "cuda" else "there is no GPU"
    without_pytest = None if find_spec("pytest") is not None else "pytest is not installed"
    return [
        Part("machine", 0.1, 0, _look),
        Part("images", 0.2, 0, _bring_images),
        Part("tests", 0.15, 15, _test, without_gpu or without_pytest),
        Part("attack", 0.2, 15, _attack),
        Part("steps", 0.2, 10, steps.run),
        Part("first-call", 0.12, 15, partial(first_call.run, folder=folder / "first-call"), without_gpu),
        Part("training", 0.2, 10, trainings.run),
        Part("dataset", 0.7, 10, recipes.make_one_dataset),
        Part("table", 1.0, 10, recipes.learn_from_errors),
    ]


def _ended(part: Part, bench: Bench, clock: Clock, record: Record) -> str:
    """Run a part; return how it ended: done, out of time, failed or skipped."""
    began, seconds = time.monotonic(), part.share * (clock.left - _KEPT_FOR_THE_END)
    ended, said = "done", list[str]()
    if part.skipped is not None:
        ended, said = "skipped", [part.skipped]
    elif seconds < max(0.1, part.least):
        ended, said = (
            "skipped",
            [f"{max(0.0, seconds):.0f} s are too short for it, it wants {part.least:.0f}"],
        )
    else:
        bench.say(f"part {part.name}, up to {seconds:.0f} s")
        try:
            with clock.share(seconds) as own:
                part.run(bench, own, partial(record.found, part.name))
        except TimeIsUp:
            silence()
            ended, said = "out of time", [f"its {seconds:.0f} s were over; what is above was measured"]
        except Exception as error:  # also torch.OutOfMemoryError: the next part goes on
            ended, said = "failed", [f"{type(error).__name__}: {first_line(error)}"[:300]]
    bench.say("; ".join((f"part {part.name} {ended}", *said)))
    free_memory()
    record.ended(
        part.name, Outcome(ended=ended, seconds=round(time.monotonic() - began, 1), said=tuple(said))
    )
    return ended


def _look(bench: Bench, _: Clock, keep: Keep) -> None:
    keep(card.look(bench.peaks))


def _bring_images(bench: Bench, _: Clock, keep: Keep) -> None:
    keep(recipes.bring_images(bench))


def _test(_: Bench, clock: Clock, keep: Keep) -> None:
    keep(own_tests.run(clock.left - 1))


def _attack(bench: Bench, clock: Clock, keep: Keep) -> None:
    """Compare whole calls of the attack with its peers on the network of all parts before the table."""
    sizes, images = bench.sizes, bench.real_images
    settings = attacks.Settings(
        model=sizes.model,
        width=sizes.width,
        image_size=images.test.shape[-1],
        epochs=sizes.network_epochs,
        steps=sizes.attack_steps,
        attacked=sizes.attacked,
        rounds=sizes.rounds,
    )
    source = bench.experiment.data.source.partition(":")[0]
    judge = Judge(bench.network, device())

    def kept(found: attacks.Figures) -> None:
        keep(found)
        rates = {row.name: row.image_steps_per_second for row in found.rows}
        bench.image_steps_per_second = rates.get("advfeat (long work)", rates["advfeat (auto)"])

    attacks.compared(
        settings,
        bench.network,
        images,
        source,
        judge=judge,
        quick=bench.quick,
        say=bench.say,
        keep=kept,
        enough_time=lambda: clock.left > _SECONDS_FOR_A_PEER,
        known_peaks=bench.peaks,
        long_work=device().type == "cuda",  # compilers of CPUs take minutes
    )
