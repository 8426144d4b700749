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
from torch import Tensor
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from advfeat.attacks import Engine, plainly, step_flop
from advfeat.attacks.engine import convolutions_for
from advfeat.attacks.pgd import attack_step
from advfeat.attacks.prepared import prepared
from advfeat.attacks.step_graph import Step, compile_step
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
"""Without so many left, no further variant is begun."""


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
    """Measure every variant, from the one that later parts plan with on."""
    where, model = device(), bench.network
    images = as_pixels(bench.real_images.test[:1]).to(where)
    chosen = engine_for_long_work(model, images)
    peaks = machine.measure_peaks(where, quick=True).flops_per_second
    peak = "bf16" if chosen.precision == "bf16" else "fp32"
    flops, rows, profiles = float(step_flop(model, images)), [], []  # type: ignore[var-annotated]

    def told() -> None:
        keep(
            Figures(
                flops_per_image_step=flops,
                peak_flops_per_second=peaks[peak],
                peak=peak,
                rows=tuple(rows),
                profiles=tuple(profiles),
            )
        )

    for name, engine in _variants(chosen, bench.sizes.tiles):
        if clock.left < (0 if not rows else _SECONDS_FOR_ONE):
            bench.say(f"no time was left for {name}, tile {engine.tile}")
            continue
        bench.say(f"step: {name}, tile {engine.tile:,}")
        try:
            step, example, seconds, warned = _ready(bench, model, engine)
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
                        told=warned,
                    )
                )
                told()
                if engine.tile == chosen.tile:
                    profiles.append(_profile(name, engine.tile, step, example))
                    told()
        except Exception as error:  # whatever one variant raises, the others are measured
            bench.say(f"step: {name}, tile {engine.tile:,}: {type(error).__name__}: {first_line(error)}")
        free_memory()


def _variants(chosen: Engine, tiles: tuple[int, ...]) -> list[tuple[str, Engine]]:
    """Return engines by name: what is chosen for long work first, at its own tile."""
    tiles = (chosen.tile, *(tile for tile in tiles if tile != chosen.tile))
    compiled = [("compiled", replace(chosen, compiled=True, tile=tile)) for tile in tiles]
    eager = [("eager", replace(chosen, compiled=False, tile=tile)) for tile in tiles]
    compiles = device().type == "cuda" and can_compile(device())
    return [*(compiled if compiles else []), *eager]


def _ready(
    bench: Bench, model: Normalized, engine: Engine
) -> tuple[Step, tuple[Tensor, Tensor, Tensor], float, str]:
    """Prepare network and step; return the step, what it is given, the seconds, and a warning if any."""
    where, images = device(), bench.real_images
    pixels = as_pixels(repeated(images.test, engine.tile)).to(where)
    targets = other_classes(repeated(images.test_labels, engine.tile), len(images.classes)).to(where)
    pixels = pixels.contiguous(memory_format=engine.layout)
    example = pixels, torch.zeros_like(pixels), targets
    attack = Attack(norm="l2", eps=0.5, steps=100, step_size=0.1)

    def prepare() -> Step:
        with plainly(model), convolutions_for(engine, where):
            network, used = prepared(model, engine, pixels)
            step = attack_step(network, attack)
            return compile_step(step, example, used.abreast) if used.compiled else step

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        step, seconds = measure.timed(prepare, where)
    ours = [str(each.message) for each in caught if "attack" in str(each.message)]
    return step, example, seconds, first_line(ours[0])[:120] if ours else ""


def _seconds_a_step(step: Step, example: tuple[Tensor, Tensor, Tensor]) -> float:
    images, perturbation, labels = example

    def several() -> None:
        moved = perturbation
        for _ in range(_STEPS_EACH):
            moved = step(images, moved, labels)[0]

    several()
    where = images.device
    return statistics.median(measure.timed(several, where)[1] for _ in range(_REPETITIONS)) / _STEPS_EACH


def _profile(name: str, tile: int, step: Step, example: tuple[Tensor, Tensor, Tensor]) -> Profile:
    images, perturbation, labels = example
    on_gpu = images.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        for _ in range(_STEPS_EACH):
            perturbation = step(images, perturbation, labels)[0]
        measure.synchronize(images.device)
    wanted = DeviceType.CUDA if on_gpu else DeviceType.CPU
    spent = [
        (event.key, event.count, event.self_device_time_total if on_gpu else event.self_cpu_time_total)
        for event in profiled.key_averages()
        if event.device_type == wanted and not getattr(event, "is_user_annotation", False)
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
