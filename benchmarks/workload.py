"""The work that is measured: real images, a trained network, and the one place that calls our attack."""

import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from advfeat import attacks, data, models, training
from advfeat.attacks import Engine, choose_engine
from advfeat.hardware import device, true_fp32
from advfeat.progress import Progress
from advfeat.spec import Attack, DataSpec, Norm, Precision, TrainSpec
from advfeat.training import TrainingSet

_ENDLESS = 10**15
"""Image-steps."""


@dataclass(frozen=True)
class Images:
    """Images uint8 (N, C, H, W) and labels of both splits."""

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    classes: tuple[str, ...]


def load_images(spec: DataSpec, *, size: int, channels: int | None) -> Images:
    """Read a source of advfeat, at ``size`` pixels a side and with that many channels if given."""
    loaded = data.load(spec)

    def fitted(images: Tensor) -> Tensor:
        if images.shape[-2:] != (size, size):
            scaled = F.interpolate(images.float(), (size, size), mode="bilinear", antialias=True)
            images = scaled.round().clamp(0, 255).to(torch.uint8)
        if channels is not None and images.shape[1] == 1:
            images = images.expand(-1, channels, -1, -1)
        return images.contiguous()

    return Images(
        fitted(torch.from_numpy(loaded.train.images)),
        torch.from_numpy(loaded.train.labels),
        fitted(torch.from_numpy(loaded.test.images)),
        torch.from_numpy(loaded.test.labels),
        loaded.classes,
    )


def repeated(rows: Tensor, count: int) -> Tensor:
    """Return ``count`` rows, from the beginning again where there are fewer."""
    return rows[torch.arange(count) % len(rows)]


def other_classes(labels: Tensor, classes: int) -> Tensor:
    """Draw for every image one of the classes that it does not have; the same at every run."""
    generator = torch.Generator().manual_seed(0)
    return (labels + torch.randint(1, classes, labels.shape, generator=generator)) % classes


def trained(images: Images, spec: TrainSpec) -> models.Normalized:
    """Train a network as advfeat does, and return it as if it had just been loaded.

    That is in torch's default layout, which torchattacks and robustness need.
    """
    model = training.fit(
        TrainingSet.in_memory(images.train, images.train_labels), spec, classes=len(images.classes), seed=0
    )
    default: models.Normalized = model.to(memory_format=torch.contiguous_format)
    return default


def untrained(images: Tensor, spec: TrainSpec, classes: int) -> models.Normalized:
    """Build a network with initial weights, for measurements that weights do not change."""
    torch.manual_seed(0)
    model = models.build(spec.model, **training.shape_arguments(tuple(images.shape[1:]), spec, classes))
    return model.to(device()).eval()


def perturbed(
    model: nn.Module,
    images: Tensor,
    targets: Tensor,
    *,
    norm: Norm,
    eps: float,
    step_size: float,
    steps: int,
    precision: Precision = "auto",
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Call advfeat's attack: the only place in the benchmarks that does."""
    attack = Attack(norm=norm, eps=eps, steps=steps, step_size=step_size, precision=precision)
    return attacks.perturb(model, images, targets, attack, engine=engine, progress=progress)


def engine_for_long_work(model: nn.Module, image: Tensor) -> Engine:
    """Return the engine that advfeat chooses for work without end."""
    return choose_engine(model, image, "auto", _ENDLESS)


def share(found: Tensor) -> float:
    """Return the share of what is true."""
    return float(found.double().mean())


class Judge:
    """Says what a network sees in images, in float32, with nothing of the attacks' code.

    It does so on the CPU, or elsewhere if told: many images of a large network take a CPU minutes.
    """

    def __init__(self, model: nn.Module, where: torch.device | None = None) -> None:
        self._where = where or torch.device("cpu")
        self.model = copy.deepcopy(model).to(self._where).float().eval()

    def agreement(self, images: Tensor, labels: Tensor) -> float:
        """Return the share of images that the network puts into the given classes."""
        with torch.no_grad(), true_fp32():
            seen = [self.model(part.to(self._where)).argmax(dim=1).cpu() for part in images.split(256)]
        return share(torch.cat(seen) == labels.cpu())
