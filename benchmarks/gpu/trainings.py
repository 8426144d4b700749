"""Part ``training``: images a second of ``advfeat.training.fit`` at several sizes of a batch.

First as a user gets it: what is recorded as a CUDA graph or compiled is chosen by ``fit``. Then without that
choice. The first epoch, which records or compiles, is told apart; the rate is that of the later ones.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from itertools import product
from unittest.mock import patch

import torch

from advfeat import training
from advfeat.errors import first_line
from advfeat.hardware import can_compile, device
from advfeat.spec import Spec, TrainSpec
from advfeat.training import fitting
from benchmarks import measure
from benchmarks.gpu.bench import Bench, Sizes, free_memory
from benchmarks.gpu.clock import Clock
from benchmarks.table import Table, figure

_EPOCHS = 5
_SECONDS_FOR_ONE = 10.0


class Row(Spec):
    """How fast a network trains in one way, at one size of a batch."""

    name: str
    batch: int
    first_epoch_seconds: float
    images_per_second: float
    milliseconds_a_step: float
    told: str = ""
    """A warning of it, such as why its steps are not recorded."""


class Figures(Spec):
    """All trainings."""

    model: str
    images: int
    rows: tuple[Row, ...]

    def tables(self) -> list[Table]:
        """Return the figures as a table."""
        return [
            Table(
                title=f"Training of {self.model}",
                columns=("", "batch", "images/s", "ms a step", "first epoch, s"),
                rows=tuple(
                    (
                        "; ".join(filter(None, (row.name, row.told))),
                        str(row.batch),
                        figure(row.images_per_second),
                        figure(row.milliseconds_a_step),
                        figure(row.first_epoch_seconds),
                    )
                    for row in self.rows
                ),
                note=f"{self.images:,} images an epoch, flips and shifts; the rate is that of the epochs "
                "after the first.",
            )
        ]


def run(bench: Bench, clock: Clock, keep: Callable[[Figures], None]) -> None:
    """Time every way at every size, what a user gets first."""
    sizes, rows = bench.sizes, list[Row]()
    for name, switched, batches in _ways(sizes):
        for batch in batches:
            if rows and clock.left < _SECONDS_FOR_ONE:
                bench.say(f"no time was left for {name}, batch {batch}")
                continue
            bench.say(f"training: {name}, batch {batch}")
            try:
                with switched():
                    row = _timed(bench, name, batch)
            except Exception as error:  # whatever one way raises, the others are measured
                bench.say(f"training: {name}, batch {batch}: {type(error).__name__}: {first_line(error)}")
                continue
            finally:
                free_memory()
            rows.append(row)
            bench.images_per_second.setdefault(batch, row.images_per_second)
            keep(Figures(model=sizes.model, images=sizes.trained_images, rows=tuple(rows)))


def _timed(bench: Bench, name: str, batch: int) -> Row:
    sizes = bench.sizes
    spec = TrainSpec(
        model=sizes.model,
        width=sizes.width,
        epochs=_EPOCHS,
        batch_size=batch,
        learning_rate=0.05,
        augmentation="flip-crop",
        threads=torch.get_num_threads(),
    )
    count = sizes.trained_images
    laps = measure.Laps(count - 1, device())  # a last batch of one image is left out
    fit = partial(training.fit, classes=len(bench.real_images.classes), seed=0, progress=laps)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(bench.training_set(count), spec)
    laps.finish()
    rate = laps.rate or count / laps.first_seconds
    return Row(
        name=name,
        batch=batch,
        first_epoch_seconds=laps.first_seconds,
        images_per_second=rate,
        milliseconds_a_step=1000 * batch / rate,
        told=next((str(each.message)[:150] for each in caught if "training steps" in str(each.message)), ""),
    )


_Way = tuple[str, Callable[[], AbstractContextManager[None]], tuple[int, ...]]
"""A way to train, what switches it on, and the sizes of a batch that it is timed at."""


def _ways(sizes: Sizes) -> list[_Way]:
    ways: list[_Way] = [("as it is chosen", nullcontext, sizes.batches)]
    if device().type == "cuda":
        ways.append(("step by step", partial(_choosing, compiles=False), sizes.batches))
        if can_compile(device()):  # it takes tens of seconds, whatever the batch
            ways.append(("compiled", partial(_choosing, compiles=True), sizes.batches[-1:]))
    return ways


@contextmanager
def _choosing(*, compiles: bool) -> Iterator[None]:
    """Take the choice from ``fit``: no step is recorded as a CUDA graph; networks are compiled, or not.

    No setting of a training does: it is a choice that only figures such as these can judge.
    """
    with ExitStack() as changed:
        if hasattr(fitting, "_recorder"):
            changed.enter_context(patch.object(fitting, "_recorder", lambda *_, **__: None))
        pays_from = dict.fromkeys(product(("cuda",), ("bf16", "fp32")), 0.0) if compiles else {}
        changed.enter_context(patch.object(fitting, "_COMPILATION_PAYS_FROM_FLOP", pays_from))
        yield
