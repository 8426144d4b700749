"""Part ``steps``: an attack step alone, eager and compiled, at several tiles, and what it spends its time in.

A step is a forward pass, an input gradient, a move and a projection, of a tile of images on the device. Its
time is that of the median of repetitions. Seconds until ready are those of everything before the first
step can be repeated, compilation and the choice among its forms included.
"""

import statistics
import warnings
from collections.abc import Callable
from dataclasses import replace

import torch
from torch.profiler import ProfilerActivity, profile

from advfeat.attacks import Engine, plainly, step_flop
from advfeat.attacks.engine import convolutions_for
from advfeat.attacks.pgd import attack_step
from advfeat.attacks.prepared import prepared
from advfeat.attacks.step_candidates import CANDIDATES, try_candidate
from advfeat.attacks.step_graph import Example, Step
from advfeat.errors import first_line
from advfeat.hardware import can_compile, device
from advfeat.models import Normalized, as_pixels
from advfeat.spec import Attack, Spec
from benchmarks import machine, measure
from benchmarks.gpu.bench import Bench, free_memory
from benchmarks.gpu.clock import Clock
from benchmarks.table import Table, figure, percent
from benchmarks.workload import engine_for_long_work, other_classes, repeated

_REPETITIONS, _STEPS_EACH = 3, 10
_KERNELS = 25
_SECONDS_FOR_ONE = 15.0
"""Without so many left, nothing further is compiled."""

_LATE = ("autotuned",)
"""What takes longest to compile comes last."""


class Row(Spec):
    """One way to compute a step, at one tile."""

    name: str
    tile: int
    seconds_until_ready: float
    milliseconds: float
    image_steps_per_second: float
    share_of_peak: float
    told: str = ""


class Kernel(Spec):
    """One kernel of a step: how often it runs, how long it takes altogether, and its share of the step."""

    name: str
    calls: float
    milliseconds: float
    share: float


class Profile(Spec):
    """What one step spends its time in."""

    of: str
    tile: int
    milliseconds: float
    kernels: tuple[Kernel, ...]


class Figures(Spec):
    """All variants, and the kernels of the fastest compiled one and of the eager one."""

    flops_per_image_step: float
    peak_flops_per_second: float
    peak: str
    rows: tuple[Row, ...]
    profiles: tuple[Profile, ...]

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        speed = Table(
            title="The attack step alone",
            columns=("", "tile", "image-steps/s", "ms a step", f"of {self.peak} peak", "s until ready"),
            rows=tuple(
                (
                    "; ".join(filter(None, (row.name, row.told))),
                    f"{row.tile:,}",
                    figure(row.image_steps_per_second),
                    figure(row.milliseconds),
                    percent(row.share_of_peak),
                    figure(row.seconds_until_ready),
                )
                for row in self.rows
            ),
            note=f"{figure(self.flops_per_image_step / 1e9)} GFLOP per image and step; median of "
            f"{_REPETITIONS} times {_STEPS_EACH} steps.",
        )
        return [speed, *map(_kernels, self.profiles)]


def _kernels(found: Profile) -> Table:
    return Table(
        title=f"Kernels of one step: {found.of}, tile {found.tile:,}, {found.milliseconds:.2f} ms",
        columns=("kernel", "calls", "ms", "share"),
        rows=tuple(
            (kernel.name[:90], f"{kernel.calls:g}", f"{kernel.milliseconds:.3f}", percent(kernel.share))
            for kernel in found.kernels
        ),
    )


def run(bench: Bench, clock: Clock, keep: Callable[[Figures], None]) -> None:
    """Measure each way to compile a step, the step itself, then the fastest way at other tiles."""
    where, model = device(), bench.network
    images = as_pixels(bench.real_images.test[:1]).to(where)
    chosen = engine_for_long_work(model, images)
    peaks = bench.peaks.flops_per_second
    peak: machine.Precision = "bf16" if chosen.precision == "bf16" else "fp32"
    flops, rows, profiles = float(step_flop(model, images)), list[Row](), list[Profile]()

    def figures() -> Figures:
        return Figures(
            flops_per_image_step=flops,
            peak_flops_per_second=peaks[peak],
            peak=peak,
            rows=tuple(rows),
            profiles=tuple(profiles),
        )

    def measured(name: str, engine: Engine, prepare: _Preparing) -> None:
        bench.say(f"step: {name}, tile {engine.tile:,}")
        try:
            example = _example(bench, engine)
            step, seconds, told = _ready(model, engine, example, prepare)
            with torch.no_grad(), convolutions_for(engine, where):
                milliseconds = 1000 * _seconds_a_step(step, example)
                rate = 1000 * engine.tile / milliseconds
                rows.append(
                    Row(
                        name=name,
                        tile=engine.tile,
                        seconds_until_ready=seconds,
                        milliseconds=milliseconds,
                        image_steps_per_second=rate,
                        share_of_peak=rate * flops / peaks[peak],
                        told=told,
                    )
                )
                keep(figures())
                if engine.tile == chosen.tile:
                    profiles.append(_profile(name, engine.tile, step, example))
                    keep(figures())
        except Exception as error:  # whatever one variant raises, the others are measured
            bench.say(f"step: {name}, tile {engine.tile:,}: {type(error).__name__}: {first_line(error)}")
        free_memory()

    others = [replace(chosen, tile=tile) for tile in bench.sizes.tiles if tile != chosen.tile]
    may_compile = where.type == "cuda" and can_compile(where)
    compilers = {name: _candidate(name) for name in CANDIDATES} if may_compile else {}
    late = {name: compilers.pop(name) for name in _LATE if name in compilers}
    for name, prepare in compilers.items():
        if not rows or clock.left > _SECONDS_FOR_ONE:
            measured(name, chosen, prepare)
    compiled = max(rows, key=lambda row: row.image_steps_per_second, default=None)
    for engine in (chosen, *others):
        if clock.left > _SECONDS_FOR_ONE / 3:
            measured("eager", engine, _as_it_is)
    for engine in others:
        if compiled is not None and clock.left > _SECONDS_FOR_ONE:
            measured(compiled.name, engine, compilers[compiled.name])
    for name, prepare in late.items():
        if clock.left > _SECONDS_FOR_ONE:
            measured(name, chosen, prepare)


_Preparing = Callable[[Step, Example], Step]
"""(step, example) -> the step in another form."""


def _as_it_is(step: Step, _: Example) -> Step:
    return step


def _candidate(name: str) -> _Preparing:
    """Return what compiles a step in the form of that name; it raises ``ValueError`` with its problem."""

    def prepare(step: Step, example: Example) -> Step:
        with torch.no_grad():
            timed, compiled = try_candidate(name, step, example)
        if timed.problem:
            raise ValueError(timed.problem)
        return compiled

    return prepare


def _example(bench: Bench, engine: Engine) -> Example:
    """Return images, perturbations and targets of one tile on the device."""
    where, images = device(), bench.real_images
    pixels = as_pixels(repeated(images.test, engine.tile)).to(where)
    pixels = pixels.contiguous(memory_format=engine.layout)
    labels = repeated(images.test_labels, engine.tile)
    return pixels, torch.zeros_like(pixels), other_classes(labels, len(images.classes)).to(where)


def _ready(
    model: Normalized, engine: Engine, example: Example, prepare: _Preparing
) -> tuple[Step, float, str]:
    """Prepare network and step; return the step, the seconds, and a warning."""
    where = device()
    attack = Attack(norm="l2", eps=0.5, steps=100, step_size=0.1)

    def work() -> Step:
        with plainly(model), convolutions_for(engine, where):
            network, _ = prepared(model, engine, example[0])
            return prepare(attack_step(network, attack), example)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step, seconds = measure.timed(work, where)
    ours = [str(each.message).splitlines()[0] for each in caught if "attack" in str(each.message)]
    return step, seconds, "".join(ours[:1])[:150]


def _seconds_a_step(step: Step, example: Example) -> float:
    images, perturbation, labels = example

    def several() -> None:
        moved = perturbation
        for _ in range(_STEPS_EACH):
            moved = step(images, moved, labels)[0]

    several()
    where = images.device
    return statistics.median(measure.timed(several, where)[1] for _ in range(_REPETITIONS)) / _STEPS_EACH


def _profile(name: str, tile: int, step: Step, example: Example) -> Profile:
    images, perturbation, labels = example
    on_gpu = images.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(_STEPS_EACH):
            perturbation = step(images, perturbation, labels)[0]
        measure.synchronize(images.device)
    wanted = "DeviceType.CUDA" if on_gpu else "DeviceType.CPU"
    spent = [
        (event.key, event.count, event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profiled.key_averages()
        if str(event.device_type) == wanted and not getattr(event, "is_user_annotation", False)
    ]
    total = sum(microseconds for _, _, microseconds in spent) or 1.0
    longest = sorted(spent, key=lambda each: each[2], reverse=True)[:_KERNELS]
    return Profile(
        of=name,
        tile=tile,
        milliseconds=total / 1000 / _STEPS_EACH,
        kernels=tuple(
            Kernel(
                name=key,
                calls=count / _STEPS_EACH,
                milliseconds=microseconds / 1000 / _STEPS_EACH,
                share=microseconds / total,
            )
            for key, count, microseconds in longest
        ),
    )
