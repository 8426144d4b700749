"""How the time of an attack grows with the number of images and with the number of steps.

A small network with initial weights is attacked: 1,024 to 8,192 images for 10 steps, and 1,024
images for 10 to 40 steps. All cases alternate within each round, so that drift of the machine does
not look like growth; a case's time is its median. The exponent is the slope of a least-squares line
through the logarithms (``numpy.polyfit``): 1 means twice the work takes twice the time, less means
that a fixed cost is shared. Its range over the single rounds says how far to trust it.
"""

from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from pydantic import Field

from advfeat.hardware import device
from advfeat.models import as_pixels
from advfeat.spec import DataSpec, ModelName, Norm, Spec, TrainSpec
from benchmarks import measure
from benchmarks.options import Numbers
from benchmarks.table import Table, figure
from benchmarks.workload import load_images, other_classes, perturbed, repeated, untrained

Case = tuple[int, int]
"""Images and steps."""


class Settings(Spec):
    """Which cases are timed, on which network."""

    model: ModelName = Field(default="cnn", description="architecture under attack")
    width: int = Field(default=16, description="channels of its first layer")
    image_size: int = Field(default=28, ge=8, description="pixels a side")
    norm: Norm = Field(default="l2", description="norm of the ball")
    eps: float = Field(default=0.5, gt=0, description="radius of the ball")
    images: Numbers = Field(default=(1024, 2048, 4096, 8192), min_length=2, description="numbers of images")
    step_counts: Numbers = Field(default=(10, 20, 40), min_length=2, description="numbers of steps")
    rounds: int = Field(default=5, ge=1, description="rounds that are counted")

    @property
    def by_images(self) -> list[Case]:
        """The cases that differ in images only."""
        return [(count, self.step_counts[0]) for count in self.images]

    @property
    def by_steps(self) -> list[Case]:
        """The cases that differ in steps only."""
        return [(self.images[0], steps) for steps in self.step_counts]


QUICK = Settings(width=8, images=(256, 512, 1024, 2048), rounds=3)


class Exponent(Spec):
    """A fitted exponent, and its range over the single rounds."""

    value: float
    lowest: float
    highest: float


class Timing(Spec):
    """One case."""

    images: int
    steps: int
    seconds: float


class Figures(Spec):
    """All cases and both exponents."""

    settings: Settings
    timings: tuple[Timing, ...]
    images: Exponent
    steps: Exponent

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        settings = self.settings
        return [
            Table(
                title="Growth of an attack's time",
                columns=("images", "steps", "seconds", "image-steps/s"),
                rows=tuple(
                    (
                        f"{timing.images:,}",
                        str(timing.steps),
                        figure(timing.seconds),
                        figure(timing.images * timing.steps / timing.seconds),
                    )
                    for timing in self.timings
                ),
                note=f"{settings.model} of width {settings.width}, {settings.image_size} pixels a side, "
                f"{settings.norm}; medians of {settings.rounds} alternating rounds.",
            ),
            Table(
                title="Exponents of growth",
                columns=("time grows with", "exponent", "lowest to highest round"),
                rows=tuple(
                    (name, f"{found.value:.3f}", f"{found.lowest:.3f} to {found.highest:.3f}")
                    for name, found in (("images", self.images), ("steps", self.steps))
                ),
                note="1 is proportional.",
            ),
        ]


def run(settings: Settings, data: DataSpec, *, say: Callable[[str], None]) -> Figures:
    """Time every case in alternation, and fit the exponents."""
    cases = _cases(settings, data)
    rounds: list[dict[Case, float]] = []
    for one in measure.alternate(cases, settings.rounds, device()):
        rounds.append(one)
        say(f"round {len(rounds)} of {settings.rounds}")
    seconds = measure.medians(rounds)
    return Figures(
        settings=settings,
        timings=tuple(
            Timing(images=images, steps=steps, seconds=taken) for (images, steps), taken in seconds.items()
        ),
        images=_exponent(settings.by_images, 0, seconds, rounds),
        steps=_exponent(settings.by_steps, 1, seconds, rounds),
    )


def _cases(settings: Settings, data: DataSpec) -> dict[Case, Callable[[], object]]:
    """Prepare every case, and attack every number of images once so that nothing is left to compile."""
    loaded = load_images(data, size=settings.image_size, channels=3 if settings.model == "resnet18" else None)
    classes = len(loaded.classes)
    spec = TrainSpec(model=settings.model, width=settings.width)
    model = untrained(loaded.train, spec, classes)
    images = as_pixels(repeated(loaded.train, max(settings.images))).to(device())
    targets = other_classes(repeated(loaded.train_labels, len(images)), classes).to(device())

    def attack(count: int, steps: int) -> torch.Tensor:
        return perturbed(
            model,
            images[:count],
            targets[:count],
            norm=settings.norm,
            eps=settings.eps,
            step_size=settings.eps / 4,
            steps=steps,
        )

    for count in settings.images:
        attack(count, 1)
    return {case: partial(attack, *case) for case in dict.fromkeys(settings.by_images + settings.by_steps)}


def _exponent(
    cases: list[Case], axis: int, seconds: Mapping[Case, float], rounds: list[dict[Case, float]]
) -> Exponent:
    def slope(taken: Mapping[Case, float]) -> float:
        sizes = np.log([case[axis] for case in cases])
        return float(np.polyfit(sizes, np.log([taken[case] for case in cases]), 1)[0])

    single = [slope(one) for one in rounds]
    return Exponent(value=slope(seconds), lowest=min(single), highest=max(single))
