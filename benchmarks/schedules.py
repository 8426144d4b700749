"""How much of an attack's success a number of steps buys: each schedule beside AutoPGD and FMN.

``python -m benchmarks.schedules`` trains a network a seed by ``advfeat.training.fit`` and moves test images
towards another class drawn at random, within L2 balls of several radii, in float32. AutoPGD is that of its
authors (pyautoattack, the extra ``autoattack``), with cross-entropy and from the image itself as ours; FMN is
adv-lib's, which looks for the smallest perturbation and so runs once for all radii. Each gets as many forward
and backward passes as there are steps; AutoPGD takes one more, ours under ``apgd`` one more forward pass.

Success is the share of images that the network puts into the target class, at the largest radius but one.
Optimality is AttackBench's (Cinà et al. 2024, arXiv 2404.19460): with the share of images that hold out
drawn over the radii, 1 less the area between an attack's curve and that of the best of all attacks and steps
together, divided by the area above the latter. 1 means that no image was found by any other at a smaller
radius. Means over seeds.
"""

import argparse
import importlib
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from advfeat.attacks import perturb
from advfeat.models import as_pixels
from advfeat.spec import Attack, DataSpec, ModelName, Seed, Spec, StepSchedule, TrainSpec
from advfeat.training import TrainingSet, fit
from benchmarks.options import Listed, Numbers, add_options, chosen
from benchmarks.report import say, show
from benchmarks.table import Table, percent
from benchmarks.workload import load_images, other_classes

_AUTO_PGD = "pyautoattack.autopgd_base"
_FMN = "adv_lib.attacks.fast_minimum_norm"

Distances = NDArray[np.float64]
"""The smallest radius at which each image was moved into its target class, infinite where at none."""


class Settings(Spec):
    """Which network is attacked, and how."""

    data: str = Field(default="digits", description="any source of advfeat's DataSpec")
    data_root: str | None = Field(default=None, description="folder that holds the torchvision data set")
    train_size: int | None = Field(default=None, ge=1, description="use this many training images; else all")
    image_size: int = Field(default=8, ge=2, description="pixels a side")
    model: ModelName = Field(default="cnn", description="architecture under attack")
    width: int = Field(default=24, description="channels of its first layer")
    epochs: int = Field(default=12, ge=1, description="passes over the training images")
    radii: Annotated[tuple[float, ...], Listed] = Field(
        default=(0.5, 0.75, 1.0, 1.25, 1.5), min_length=2, description="radii of the L2 balls, ascending"
    )
    step_counts: Numbers = Field(default=(5, 10, 20, 50, 100), min_length=1, description="numbers of steps")
    attacked: int = Field(default=128, ge=1, description="test images attacked")
    seeds: Annotated[tuple[Seed, ...], Listed] = Field(default=(0, 1, 2), min_length=1, description="seeds")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.schedules", description=__doc__)
    add_options(parser, [Settings()])
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    show(measured(chosen(Settings(), given), say=say))
    return 0


def measured(settings: Settings, *, say: Callable[[str], None]) -> Table:
    """Measure all attacks that are installed, and return the table."""
    spec = DataSpec(source=settings.data, root=settings.data_root, train_size=settings.train_size)
    images = load_images(spec, size=settings.image_size, channels=None)
    training = TrainSpec(model=settings.model, width=settings.width, epochs=settings.epochs)
    pixels = as_pixels(images.test[: settings.attacked])
    targets = other_classes(images.test_labels[: settings.attacked], len(images.classes))
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for seed in settings.seeds:
        trained = TrainingSet.in_memory(images.train, images.train_labels)
        model = fit(trained, training, classes=len(images.classes), seed=seed).cpu().eval()
        distances: dict[tuple[str, int], Distances] = {}
        for steps in settings.step_counts:
            for name, attack in _attacks().items():
                say(f"seed {seed}, {steps} steps: {name}")
                distances[name, steps] = attack(model, pixels, targets, steps, settings.radii)
        best = np.min(list(distances.values()), axis=0)
        for key, of_one in distances.items():
            reached = float((of_one <= settings.radii[-2]).mean())
            found.setdefault(key, []).append((reached, optimality(of_one, best, settings.radii)))
    means = {key: [statistics.fmean(each) for each in zip(*some, strict=True)] for key, some in found.items()}
    names = dict.fromkeys(name for name, _ in means)
    return Table(
        title=f"Success at L2 {settings.radii[-2]:g}, and optimality, by number of steps: {settings.data}",
        columns=("", *map(str, settings.step_counts)),
        rows=tuple(
            (name, *(f"{percent(means[name, n][0])}, {means[name, n][1]:.3f}" for n in settings.step_counts))
            for name in names
        ),
        note=f"{len(pixels):,} images, {len(settings.seeds)} seeds, radii {settings.radii}",
    )


def optimality(distances: Distances, best: Distances, radii: Sequence[float]) -> float:
    """Return AttackBench's measure of an attack, at most 1, from curves through 0 and the radii."""
    places = np.array([0, *radii])

    def area(of_one: Distances) -> float:
        holding_out = [(of_one > radius).mean() for radius in places]
        return float(np.trapezoid(holding_out, places))

    above = float((best > 0).mean()) * radii[-1] - area(best)
    return 1 - (area(distances) - area(best)) / above if above else 1.0


_Measured = Callable[[nn.Module, Tensor, Tensor, int, Sequence[float]], Distances]


def _attacks() -> dict[str, _Measured]:
    ours = {name: _of_schedule(name) for name in get_args(StepSchedule)}
    peers = {"AutoPGD": ("pyautoattack", _auto_pgd), "FMN": ("adv_lib", _fmn)}
    installed = {name: attack for name, (module, attack) in peers.items() if importlib.util.find_spec(module)}
    return ours | installed


def _of_schedule(schedule: StepSchedule) -> _Measured:
    def attacked(model: nn.Module, images: Tensor, targets: Tensor, steps: int, eps: float) -> Tensor:
        return perturb(
            model, images, targets, Attack(eps=eps, steps=steps, schedule=schedule, precision="fp32")
        )

    return _at_each_radius(attacked)


def _at_each_radius(attack: Callable[[nn.Module, Tensor, Tensor, int, float], Tensor]) -> _Measured:
    def measured(
        model: nn.Module, images: Tensor, targets: Tensor, steps: int, radii: Sequence[float]
    ) -> Distances:
        distances = _unperturbed(model, images, targets)
        for eps in radii:
            hit = _hits(model, attack(model, images, targets, steps, eps), targets)
            distances[hit] = np.minimum(distances[hit], eps)
        return distances

    return measured


def _auto_pgd(
    model: nn.Module, images: Tensor, targets: Tensor, steps: int, radii: Sequence[float]
) -> Distances:
    library: Any = importlib.import_module(_AUTO_PGD)

    def attacked(model: nn.Module, images: Tensor, targets: Tensor, steps: int, eps: float) -> Tensor:
        attack = library.APGDAttack_targeted(model, n_iter=steps, norm="L2", eps=eps, device="cpu")
        attack.loss, attack.y_target = "ce-targeted", targets
        attack.init_hyperparam(images)
        best: Tensor = attack.attack_single_run(images, targets, x_init=images.clone())[0]
        return best

    return _at_each_radius(attacked)(model, images, targets, steps, radii)


def _fmn(model: nn.Module, images: Tensor, targets: Tensor, steps: int, _: Sequence[float]) -> Distances:
    library: Any = importlib.import_module(_FMN)
    moved = library.fmn(model, images, targets, norm=2, targeted=True, steps=steps)
    distances: Distances = (moved - images).double().flatten(1).norm(dim=1).numpy()
    distances[~_hits(model, moved, targets)] = np.inf
    return np.minimum(distances, _unperturbed(model, images, targets))


def _unperturbed(model: nn.Module, images: Tensor, targets: Tensor) -> Distances:
    return np.where(_hits(model, images, targets), 0.0, np.inf)


def _hits(model: nn.Module, images: Tensor, targets: Tensor) -> NDArray[np.bool_]:
    with torch.no_grad():
        return np.asarray((model(images).argmax(1) == targets).numpy())


if __name__ == "__main__":
    sys.exit(main())
