"""Parts ``images``, ``dataset`` and ``table``: the stages of a run, from images to evaluations.

They are computed one after another in this process, with a store in a temporary folder. Epochs
are those of the preset, or as large a share of them as the time allows; that share is told.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from advfeat.errors import StageFailedError, first_line
from advfeat.hardware import device
from advfeat.planning import Experiment, build_plan
from advfeat.recipes import RECIPES
from advfeat.spec import Spec, TrainSpec
from advfeat.stages.dataset import make_dataset, make_shard
from advfeat.stages.evaluation import evaluate
from advfeat.stages.images import read_classes, read_split, write_images
from advfeat.stages.model import train_model
from advfeat.storage import MODELS, ArtifactRef, Stage, StageKind, Store
from benchmarks.gpu.bench import Bench, free_memory
from benchmarks.gpu.clock import Clock
from benchmarks.gpu.setting import RECIPES as ROWS
from benchmarks.gpu.setting import with_epochs
from benchmarks.table import Table, figure, percent
from benchmarks.workload import Images

_COMPUTATIONS: dict[StageKind, Callable[[Stage, Store], ArtifactRef]] = {
    "images": write_images,
    "source_model": train_model,
    "shard": make_shard,
    "dataset": make_dataset,
    "target_model": train_model,
    "evaluation": evaluate,
}

_UNMEASURED_IMAGES_PER_SECOND = 10_000.0
_UNMEASURED_IMAGE_STEPS_PER_SECOND = 100_000.0
"""What is planned with where the parts that measure it did not."""

_SHARE_OF_ERRORS = 0.3
"""About the share of the images that a weak source model takes for another class."""

_SECONDS_OF_AN_EVALUATION = 3.0
_RESERVED = 0.1
"""Share of the time that no plan counts on."""

_TOLD = ("train_accuracy", "test_accuracy", "attack_success", "permuted_accuracy", "train_size")


class StageTime(Spec):
    """How long a stage took, and what it says of itself."""

    title: str
    kind: str
    seconds: float
    metrics: dict[str, float]


class Epochs(Spec):
    """How many passes each network gets, of those that the preset gives it, and for what time."""

    source: int
    target: int
    of_source: int
    of_target: int
    seconds_left: float

    @property
    def sentence(self) -> str:
        """The epochs in words."""
        return (
            f"Epochs: source {self.source} of the preset's {self.of_source}, targets {self.target} of "
            f"{self.of_target}, as {self.seconds_left:.0f} s were left."
        )


class ImagesFigures(Spec):
    """How long it took to bring the images into the store."""

    train_size: int
    test_size: int
    seconds: float

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        row = (f"{self.train_size:,}", f"{self.test_size:,}", figure(self.seconds))
        return [Table(title="Images", columns=("training images", "test images", "s"), rows=(row,))]


class DatasetFigures(Spec):
    """The source model and one data set."""

    images: int
    steps: int
    epochs: Epochs
    stages: tuple[StageTime, ...]

    @property
    def dataset_seconds(self) -> float:
        """The seconds of the shards and of what joins them; 0 while there is no data set."""
        if all(stage.kind != "dataset" for stage in self.stages):
            return 0.0
        return sum(stage.seconds for stage in self.stages if stage.kind in ("shard", "dataset"))

    @property
    def source_seconds(self) -> float:
        """The seconds of the source model."""
        return sum(stage.seconds for stage in self.stages if stage.kind == "source_model")

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        seconds = self.dataset_seconds
        rate = f", {figure(self.images * self.steps / seconds)} image-steps/s" if seconds else ""
        return [
            Table(
                title=f"One data set: {self.images:,} images, {self.steps} steps",
                columns=("stage", "s", "metrics"),
                rows=tuple(
                    (stage.title, figure(stage.seconds), _words(stage.metrics)) for stage in self.stages
                ),
                note=f"From stage to stored rows {seconds:.1f} s{rate}. {self.epochs.sentence}",
            )
        ]


class Row(Spec):
    """One recipe: what its target model reached. ``seconds`` are those of what was not there before."""

    recipe: str
    images: int
    source_accuracy: float
    attack_success: float | None
    train_accuracy: float
    test_accuracy: float
    permuted_accuracy: float | None
    published: float | None
    seconds: float


class TableFigures(Spec):
    """The rows of the table, and all stages behind them."""

    epochs: Epochs
    rows: tuple[Row, ...]
    stages: tuple[StageTime, ...]

    def tables(self) -> list[Table]:
        """Return the table, and the seconds of its stages."""
        columns = (
            *("", "images", "source test accuracy", "attack success", "train accuracy"),
            *("clean test accuracy", "permuted classes", "published", "s"),
        )
        reached = Table(
            title="Learning from errors",
            columns=columns,
            rows=tuple(
                (
                    row.recipe,
                    f"{row.images:,}",
                    percent(row.source_accuracy),
                    _percent(row.attack_success),
                    percent(row.train_accuracy),
                    percent(row.test_accuracy),
                    _percent(row.permuted_accuracy),
                    _percent(row.published),
                    figure(row.seconds),
                )
                for row in self.rows
            ),
            note=f"{self.epochs.sentence} Permuted classes: the share of the test images that get their "
            "class's permuted one. Published: of CIFAR-10.",
        )
        seconds = Table(
            title="Stages of the table",
            columns=("stage", "s", "metrics"),
            rows=tuple((stage.title, figure(stage.seconds), _words(stage.metrics)) for stage in self.stages),
        )
        return [reached, seconds]


def bring_images(bench: Bench) -> ImagesFigures:
    """Read the images into the store, and into memory for the parts that look at them."""
    stage = _plan(bench.experiment, ROWS[0])[0]
    seconds = _computed(stage, bench).seconds
    train, test = (read_split(bench.store, stage.digest, split) for split in ("train", "test"))
    bench.images = Images(
        torch.from_numpy(train.images),
        torch.from_numpy(train.labels),
        torch.from_numpy(test.images),
        torch.from_numpy(test.labels),
        read_classes(bench.store, stage.digest),
    )
    return ImagesFigures(train_size=len(train), test_size=len(test), seconds=seconds)


def make_one_dataset(bench: Bench, _: Clock, keep: Callable[[DatasetFigures], None]) -> None:
    """Train the source model and make the first data set of the table."""
    full, left = bench.experiment, bench.clock.left
    share = _share(left, _expected(bench, full))
    bench.source_share = share
    experiment = with_epochs(full, source=share, target=share)
    epochs = _epochs(full, experiment, left)
    bench.say(epochs.sentence)
    stages: list[StageTime] = []
    for stage in _plan(experiment, ROWS[0]):
        if stage.kind not in ("images", "source_model", "shard", "dataset"):
            break
        stages.append(_computed(stage, bench))
        found = DatasetFigures(
            images=len(bench.real_images.train),
            steps=experiment.attack.steps,
            epochs=epochs,
            stages=tuple(stages),
        )
        bench.dataset = found
        keep(found)


def learn_from_errors(bench: Bench, clock: Clock, keep: Callable[[TableFigures], None]) -> None:
    """Compute the rows of the table, each as far as its evaluation."""
    full, source = bench.experiment, bench.source_share
    share = _share(clock.left, _left_over(bench, full))
    if source is None:
        source = bench.source_share = share
    experiment = with_epochs(full, source=source, target=share)
    epochs = _epochs(full, experiment, clock.left)
    bench.say(epochs.sentence)
    rows: list[Row] = []
    stages: list[StageTime] = []
    problems: list[str] = []
    for recipe in ROWS:
        began = time.perf_counter()
        found: dict[str, dict[str, float]] = {}
        try:
            for stage in _plan(experiment, recipe):
                known = stage.digest in bench.computed
                computed = _computed(stage, bench)
                found[stage.kind] = computed.metrics
                if not known:
                    stages.append(computed)
                    keep(TableFigures(epochs=epochs, rows=tuple(rows), stages=tuple(stages)))
            rows.append(_row(recipe, bench, found, time.perf_counter() - began))
        except Exception as error:  # the other recipes go on
            problems.append(f"{recipe}: {type(error).__name__}: {first_line(error)}")
            bench.say(problems[-1])
        keep(TableFigures(epochs=epochs, rows=tuple(rows), stages=tuple(stages)))
    if problems:
        raise StageFailedError("; ".join(problems))


def _row(recipe: str, bench: Bench, found: dict[str, dict[str, float]], seconds: float) -> Row:
    images = bench.real_images
    like_cifar10 = images.train.shape[1:] == (3, 32, 32) and len(images.classes) == 10
    published = RECIPES[recipe].published if like_cifar10 else None
    return Row(
        recipe=recipe,
        images=int(found["dataset"]["train_size"]),
        source_accuracy=found["source_model"]["test_accuracy"],
        attack_success=found["dataset"].get("attack_success"),
        train_accuracy=found["target_model"]["train_accuracy"],
        test_accuracy=found["evaluation"]["test_accuracy"],
        permuted_accuracy=found["evaluation"].get("permuted_accuracy"),
        published=None if published is None else published.test_accuracy,
        seconds=seconds,
    )


def _plan(experiment: Experiment, recipe: str) -> list[Stage]:
    """Return the stages of one recipe, from images to evaluation."""
    plan = build_plan(experiment.of(recipe), on_gpus=device().type == "cuda")
    return [stage for stage in plan.stages if stage.kind != "report"]


def _computed(stage: Stage, bench: Bench) -> StageTime:
    """Compute a stage, unless that is done."""
    if stage.digest in bench.computed:
        return bench.computed[stage.digest]
    title = stage.kind if stage.kind == "images" else stage.title  # which says where they lie
    bench.say(title)
    began = time.perf_counter()
    artifact = _COMPUTATIONS[stage.kind](stage, bench.store)
    seconds = time.perf_counter() - began
    if stage.kind in MODELS:
        free_memory()
    known = {name: artifact.metrics.get(name) for name in _TOLD}
    metrics = {name: float(value) for name, value in known.items() if value is not None}
    computed = StageTime(title=title, kind=stage.kind, seconds=seconds, metrics=metrics)
    bench.computed[stage.digest] = computed
    return computed


@dataclass(frozen=True)
class _Costs:
    """Seconds of what is still to be computed: of whole trainings, which can be cut, and of all else."""

    trainings: float
    rest: float


def _share(left: float, costs: _Costs) -> float:
    """Return the share of the preset's epochs that the time allows."""
    for_trainings = (1 - _RESERVED) * left - costs.rest
    return min(1.0, max(0.0, for_trainings / costs.trainings))


def _expected(bench: Bench, full: Experiment) -> _Costs:
    """Foresee the costs of everything, from the rates that earlier parts have measured."""
    source = full.source.in_training
    of_targets, of_rest = _targets_and_rest(
        bench, full, _seconds_an_epoch(bench, full.target), _dataset_seconds(bench)
    )
    return _Costs(
        source.epochs * _seconds_an_epoch(bench, source) + of_targets, of_rest + _dataset_seconds(bench)
    )


def _left_over(bench: Bench, full: Experiment) -> _Costs:
    """Foresee the costs of what follows the first data set, from what source model and data set took."""
    if bench.dataset is None or bench.dataset.dataset_seconds == 0:
        return _expected(bench, full)
    source, target = full.source.in_training, full.target
    epoch = bench.dataset.source_seconds / max(1, bench.dataset.epochs.source)
    if (source.model, source.batch_size) != (target.model, target.batch_size):
        epoch = _seconds_an_epoch(bench, target)
    return _Costs(*_targets_and_rest(bench, full, epoch, bench.dataset.dataset_seconds))


def _targets_and_rest(bench: Bench, full: Experiment, epoch: float, dataset: float) -> tuple[float, float]:
    """Return the seconds of three target models, and of a second data set, weak source and evaluations."""
    weak = full.weak_source.in_training
    of_targets = full.target.epochs * epoch * (2 + _SHARE_OF_ERRORS)
    of_weak = weak.epochs * _seconds_an_epoch(bench, weak)
    return of_targets, dataset + of_weak + len(ROWS) * _SECONDS_OF_AN_EVALUATION


def _seconds_an_epoch(bench: Bench, spec: TrainSpec) -> float:
    rates = bench.images_per_second
    nearest = min(rates, key=lambda batch: abs(batch - spec.batch_size), default=None)
    rate = _UNMEASURED_IMAGES_PER_SECOND if nearest is None else rates[nearest]
    return len(bench.real_images.train) / rate


def _dataset_seconds(bench: Bench) -> float:
    image_steps = len(bench.real_images.train) * bench.experiment.attack.steps
    return image_steps / (bench.image_steps_per_second or _UNMEASURED_IMAGE_STEPS_PER_SECOND)


def _epochs(full: Experiment, experiment: Experiment, left: float) -> Epochs:
    return Epochs(
        source=experiment.source.in_training.epochs,
        target=experiment.target.epochs,
        of_source=full.source.in_training.epochs,
        of_target=full.target.epochs,
        seconds_left=left,
    )


def _words(metrics: Mapping[str, float]) -> str:
    return ", ".join(
        f"{name} {value:,.0f}" if name == "train_size" else f"{name} {percent(value)}"
        for name, value in metrics.items()
    )


def _percent(share: float | None) -> str:
    return "" if share is None else percent(share)
