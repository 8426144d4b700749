"""What the parts of a run share: sizes, images, a trained network, and rates that later parts plan with."""

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from advfeat.attacks import pgd
from advfeat.hardware import device
from advfeat.models import Normalized
from advfeat.planning import Experiment
from advfeat.spec import ModelName, TrainSpec
from advfeat.storage import Store
from advfeat.training import TrainingSet
from benchmarks import machine
from benchmarks.gpu.clock import Clock
from benchmarks.workload import Images, trained

if TYPE_CHECKING:
    from benchmarks.gpu.recipes import DatasetFigures, StageTime


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    model: ModelName
    width: int
    network_epochs: int
    """Of the network that is attacked in the parts before the table."""
    network_batch: int
    attacked: int
    attack_steps: int
    rounds: int
    tiles: tuple[int, ...]
    batches: tuple[int, ...]
    trained_images: int
    """An epoch, where training is timed."""


FULL = Sizes("resnet18", 64, 3, 512, 4096, 10, 2, (512, 1024, 2048), (128, 256, 512), 25_600)
QUICK = Sizes("cnn", 8, 4, 32, 64, 4, 1, (64,), (64,), 256)


@dataclass
class Bench:
    """One run."""

    quick: bool
    experiment: Experiment
    store: Store
    clock: Clock
    """Of the whole run."""
    say: Callable[[str], None]
    images: Images | None = None
    known_peaks: machine.Peaks | None = None
    image_steps_per_second: float | None = None
    """Of attacks as they are made for a data set, once that is measured."""
    images_per_second: dict[int, float] = field(default_factory=dict)
    """Of training by the size of a batch, once that is measured."""
    computed: "dict[str, StageTime]" = field(default_factory=dict)
    """The stages that are in the store, by their digests."""
    source_share: float | None = None
    """Of the epochs of the preset's source model, once that is decided."""
    dataset: "DatasetFigures | None" = None
    """The source model and the first data set, once there are any."""

    @property
    def sizes(self) -> Sizes:
        """How much is measured."""
        return QUICK if self.quick else FULL

    @property
    def real_images(self) -> Images:
        """The images; raises ``LookupError`` where they could not be read."""
        if self.images is None:
            raise LookupError("there are no images, as part images did not end")
        return self.images

    @property
    def peaks(self) -> machine.Peaks:
        """The peaks of the matrix product."""
        if self.known_peaks is None:
            self.known_peaks = machine.measure_peaks(device(), quick=self.quick)
        return self.known_peaks

    @property
    def network_spec(self) -> TrainSpec:
        """How the network that is attacked is trained."""
        sizes = self.sizes
        return TrainSpec(
            model=sizes.model,
            width=sizes.width,
            epochs=sizes.network_epochs,
            batch_size=sizes.network_batch,
            learning_rate=0.1,
            threads=torch.get_num_threads(),
        )

    @cached_property
    def network(self) -> Normalized:
        """A network that was trained for a few epochs."""
        self.say(f"training {self.sizes.model} for {self.sizes.network_epochs} epochs, to be attacked")
        return trained(self.real_images, self.network_spec)

    def training_set(self, count: int) -> TrainingSet:
        """Return so many of the training images, from the beginning again where there are fewer."""
        rows = torch.arange(count) % len(self.real_images.train)
        return TrainingSet.in_memory(self.real_images.train[rows], self.real_images.train_labels[rows])


def free_memory() -> None:
    """Let go of what compiled code and freed tensors keep on the GPU."""
    if "torch._dynamo" in sys.modules:  # else there is none
        torch.compiler.reset()
        pgd._LAST_COMPILED.clear()  # it would be compiled again when it is called, with other settings
    gc.collect()
    if device().type == "cuda":
        torch.cuda.empty_cache()
