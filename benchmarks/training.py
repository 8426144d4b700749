"""How fast networks train, and how long CIFAR-10 takes to 90 % and 94 % test accuracy.

Speed: ``advfeat.training.fit`` trains each architecture for three epochs, in rounds in which the
architectures alternate; the rate counts what follows the first epoch, which may compile, and is the
median round's. The images are the source's, repeated where there are fewer.

Time to accuracy, on CIFAR-10 only: one whole training a budget of epochs, from the call of ``fit`` to
its end, everything it compiles included; then the accuracy on the test images, in float32. A goal's
time is that of the shortest training that reached it; a goal that none reached is reported so, with
the best accuracy. Without a GPU it runs only if budgets are given.
"""

import statistics
from collections.abc import Callable
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import nn

from advfeat import training
from advfeat.hardware import device, true_fp32
from advfeat.models import as_pixels
from advfeat.spec import DataSpec, ModelName, Spec, TrainSpec
from advfeat.training import TrainingSet
from benchmarks import measure
from benchmarks.options import Listed, Numbers
from benchmarks.table import Table, figure, percent
from benchmarks.workload import Images, load_images, repeated, share

WIDTHS: dict[ModelName, int] = {"resnet9": 64}
"""Widths of the first layer where it is not ``TrainSpec``'s own."""

_ADJUSTABLE = {"mlp", "cnn", "resnet9"}
"""The architectures that have no width of their own."""

GOALS = (0.90, 0.94)
_SPEED_EPOCHS = 3
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


class Settings(Spec):
    """Which architectures are trained, and how."""

    architectures: Annotated[tuple[ModelName, ...], Listed] = Field(
        default=("cnn", "resnet9", "resnet18"),
        min_length=1,
        description="architectures whose speed is measured",
    )
    image_size: int = Field(default=32, ge=8, description="pixels a side")
    train_images: int | None = Field(
        default=None, ge=2, description="images an epoch of the speed test; 1,024, or 16,384 on a GPU"
    )
    train_batch: int = Field(default=128, ge=2, description="images a training step in the speed test")
    rounds: int = Field(default=3, ge=1, description="rounds that are counted")
    accuracy_model: ModelName = Field(default="resnet9", description="architecture of the time to accuracy")
    accuracy_width: int = Field(
        default=64, ge=4, description="channels of its first layer, where it has a choice"
    )
    accuracy_batch: int = Field(default=512, ge=2, description="images a step of its training")
    accuracy_learning_rate: float = Field(default=0.4, gt=0, description="peak learning rate of its training")
    budgets: Numbers | None = Field(
        default=None, description="epochs of the trainings to accuracy; 10, 15, 20 and 30 on a GPU, else none"
    )


QUICK = Settings(image_size=16, train_images=256, train_batch=64, rounds=2)


class Speed(Spec):
    """How fast one architecture trains."""

    model: ModelName
    width: int
    images_per_second: float
    slowest: float
    fastest: float
    first_epoch_seconds: float


class Training(Spec):
    """One training to the end of its budget."""

    epochs: int
    seconds: float
    accuracy: float


class Figures(Spec):
    """Speeds, and the trainings to accuracy if there were any."""

    settings: Settings
    source: str
    images: int
    speeds: tuple[Speed, ...]
    trainings: tuple[Training, ...]
    accuracy_skipped: str | None

    def tables(self) -> list[Table]:
        """Return the figures as tables."""
        return [self._speed(), self._goals(), *([self._trainings()] if self.trainings else [])]

    def _speed(self) -> Table:
        return Table(
            title="Training speed",
            columns=("network", "width", "images/s", "slowest to fastest round", "first epoch, s"),
            rows=tuple(
                (
                    speed.model,
                    str(speed.width) if speed.model in _ADJUSTABLE else "",
                    figure(speed.images_per_second),
                    f"{figure(speed.slowest)} to {figure(speed.fastest)}",
                    figure(speed.first_epoch_seconds),
                )
                for speed in self.speeds
            ),
            note=f"{self.images:,} images of {self.source} an epoch, {self.settings.image_size} pixels a "
            f"side, batch {self.settings.train_batch}; median of {self.settings.rounds} alternating rounds. "
            "The first epoch is that of the first round and not counted in the rate.",
        )

    def _goals(self) -> Table:
        return Table(
            title="Time to test accuracy on CIFAR-10",
            columns=("accuracy", "seconds of training"),
            rows=tuple((percent(goal), self._reached(goal)) for goal in GOALS),
            note=f"{self.settings.accuracy_model} of width {self.settings.accuracy_width}, batch "
            f"{self.settings.accuracy_batch}, learning rate "
            f"{self.settings.accuracy_learning_rate}, flips and shifts.",
        )

    def _reached(self, goal: float) -> str:
        if self.accuracy_skipped is not None:
            return f"skipped: {self.accuracy_skipped}"
        times = [training.seconds for training in self.trainings if training.accuracy >= goal]
        best = max(training.accuracy for training in self.trainings)
        return figure(min(times)) if times else f"not reached: best {100 * best:.2f} %"

    def _trainings(self) -> Table:
        return Table(
            title="Trainings to accuracy",
            columns=("epochs", "seconds", "test accuracy"),
            rows=tuple(
                (str(training.epochs), figure(training.seconds), f"{100 * training.accuracy:.2f} %")
                for training in self.trainings
            ),
        )


def run(settings: Settings, data: DataSpec, *, say: Callable[[str], None]) -> Figures:
    """Measure every architecture's speed, then the time to accuracy where it applies."""
    loaded = load_images(data, size=settings.image_size, channels=3)
    count = settings.train_images or (16_384 if device().type == "cuda" else 1024)
    budgets = _budgets(settings)
    skipped = None
    if [name.lower() for name in loaded.classes] != _CIFAR10:
        skipped = "the images are not CIFAR-10"
    elif not budgets:
        skipped = "no GPU and no budgets given"
    return Figures(
        settings=settings,
        source=data.source.partition(":")[0],
        images=count,
        speeds=_speeds(settings, loaded, count, say),
        trainings=() if skipped else _trainings(settings, loaded, budgets, say),
        accuracy_skipped=skipped,
    )


def _speeds(settings: Settings, loaded: Images, count: int, say: Callable[[str], None]) -> tuple[Speed, ...]:
    laps: dict[ModelName, list[tuple[float, float]]] = {name: [] for name in settings.architectures}

    def train(model: ModelName) -> None:
        say(f"training {model}")
        spec = TrainSpec(
            model=model,
            width=_width(model),
            epochs=_SPEED_EPOCHS,
            batch_size=settings.train_batch,
            augmentation="flip-crop",
            threads=torch.get_num_threads(),
        )
        images, labels = repeated(loaded.train, count), repeated(loaded.train_labels, count)
        laps_of_one = measure.Laps(count - 1, device())  # a last batch of one image is left out
        data = TrainingSet.in_memory(images, labels)
        training.fit(data, spec, classes=len(loaded.classes), seed=0, progress=laps_of_one)
        laps_of_one.finish()
        laps[model].append((laps_of_one.first_seconds, laps_of_one.rate or 0.0))

    for _ in measure.alternate({name: partial(train, name) for name in laps}, settings.rounds, device()):
        pass
    return tuple(_speed(model, found) for model, found in laps.items())


def _speed(model: ModelName, laps: list[tuple[float, float]]) -> Speed:
    rates = sorted(rate for _, rate in laps)
    return Speed(
        model=model,
        width=_width(model),
        images_per_second=statistics.median(rates),
        slowest=rates[0],
        fastest=rates[-1],
        first_epoch_seconds=laps[0][0],
    )


def _width(model: ModelName) -> int:
    return WIDTHS.get(model, TrainSpec().width)


def _budgets(settings: Settings) -> tuple[int, ...]:
    if settings.budgets is not None:
        return settings.budgets
    return (10, 15, 20, 30) if device().type == "cuda" else ()


def _trainings(
    settings: Settings, loaded: Images, budgets: tuple[int, ...], say: Callable[[str], None]
) -> tuple[Training, ...]:
    """Train to each budget from the smallest on, until every goal is reached."""
    trainings: list[Training] = []
    for epochs in sorted(budgets):
        say(f"training {settings.accuracy_model} for {epochs} epochs")
        spec = TrainSpec(
            model=settings.accuracy_model,
            width=settings.accuracy_width,
            epochs=epochs,
            batch_size=settings.accuracy_batch,
            learning_rate=settings.accuracy_learning_rate,
            augmentation="flip-crop",
            threads=torch.get_num_threads(),
        )
        data = TrainingSet.in_memory(loaded.train, loaded.train_labels)
        fit = partial(training.fit, data, spec, classes=len(loaded.classes), seed=0)
        model, seconds = measure.timed(fit, device())
        trainings.append(Training(epochs=epochs, seconds=seconds, accuracy=_accuracy(model, loaded)))
        if trainings[-1].accuracy >= max(GOALS):
            break
    return tuple(trainings)


def _accuracy(model: nn.Module, loaded: Images) -> float:
    where = device()
    with torch.no_grad(), true_fp32():
        found = [model(as_pixels(part.to(where))).argmax(dim=1).cpu() for part in loaded.test.split(500)]
    return share(torch.cat(found) == loaded.test_labels)
