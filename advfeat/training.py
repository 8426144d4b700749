"""Training: SGD with Nesterov momentum under a one-cycle schedule, data resident in memory."""

import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from advfeat import models
from advfeat.digest import derived_seed
from advfeat.progress import Progress
from advfeat.spec import TrainSpec

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; at least one step."""


def device() -> torch.device:
    """Return the accelerator if this machine has one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def as_pixels(images: Tensor) -> Tensor:
    """Return images as float32 in [0, 1]: uint8 is divided by 255, float32 passes through."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


def fit(
    images: Tensor,
    labels: Tensor,
    spec: TrainSpec,
    *,
    classes: int,
    seed: int,
    progress: Progress | None = None,
) -> models.Normalized:
    """Train a fresh network and return it in evaluation mode.

    ``images`` are uint8 or float32 in [0, 1], (N, C, H, W); ``labels`` int64 (N,). The same
    arguments give the same weights on the same machine. ``progress`` counts images over all epochs.
    """
    torch.set_num_threads(spec.threads)
    # Some CUDA kernels have no deterministic twin: there a warning, not an error.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    where = device()
    images, labels = images.to(where), labels.to(where)
    model = _initialized(images, spec, classes, seed).to(where).to(memory_format=torch.channels_last)
    model.set_statistics(*_statistics(images))
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.momentum > 0,
    )
    steps = 1 + spec.epochs * -(-len(labels) // spec.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, spec.learning_rate, total_steps=steps, pct_start=max(_WARM_UP, 2 / steps)
    )
    generator = torch.Generator().manual_seed(derived_seed(seed, "batches"))
    seen = 0
    model.train()
    for rows in _shuffled_batches(len(labels), spec, generator):
        batch = as_pixels(images[rows.to(where)])
        if spec.augmentation == "flip-crop":
            batch = flip_and_shift(batch, generator)
        batch = batch.contiguous(memory_format=torch.channels_last)
        loss = F.cross_entropy(model(batch), labels[rows.to(where)], label_smoothing=spec.label_smoothing)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        seen += len(rows)
        if progress is not None:
            progress(seen, spec.epochs * len(labels))
    return model.eval()


def flip_and_shift(images: Tensor, generator: torch.Generator) -> Tensor:
    """Flip each image with probability one half and shift it by up to an eighth, padding with 0."""
    count, _, height, width = images.shape
    reach = max(1, height // 8)
    flips = torch.rand(count, generator=generator) < 0.5
    shifts = torch.randint(0, 2 * reach + 1, (count, 2), generator=generator)
    rows = (shifts[:, :1] + torch.arange(height)).view(count, 1, height, 1)
    across = torch.arange(width).expand(count, width)
    across = torch.where(flips[:, None], across.flip(1), across)
    columns = (shifts[:, 1:] + across).view(count, 1, 1, width)
    padded = F.pad(images, (reach,) * 4)
    everything = torch.arange(count).view(-1, 1, 1, 1), torch.arange(images.shape[1]).view(1, -1, 1, 1)
    return padded[(*everything, rows, columns)]


def _initialized(images: Tensor, spec: TrainSpec, classes: int, seed: int) -> models.Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "weights"))
        return models.build(spec.model, **shape_arguments(images, spec, classes))


def shape_arguments(images: Tensor, spec: TrainSpec, classes: int) -> dict[str, Any]:
    """Return what ``models.build`` needs to know besides the architecture's name."""
    return {"width": spec.width, "image_shape": list(images.shape[1:]), "classes": classes}


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(as_pixels(images), dim=(0, 2, 3))
    return mean, std


def _shuffled_batches(count: int, spec: TrainSpec, generator: torch.Generator) -> Iterator[Tensor]:
    """Yield the rows of each batch, epoch after epoch; a last batch of one joins no batch norm."""
    for _ in range(spec.epochs):
        for rows in torch.randperm(count, generator=generator).split(spec.batch_size):
            if len(rows) > 1:
                yield rows
