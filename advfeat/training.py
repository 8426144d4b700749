"""Training: SGD with Nesterov momentum under a one-cycle schedule, data resident on the device.

In the manner of the fast CIFAR-10 trainers (Page 2019, "How to train your ResNet"; Jordan 2024,
airbench): images stay on the device as uint8, augmentation happens there, channels_last, bf16 where the
processor has it, compiled where the work pays for it.
"""

import hashlib
import os
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from advfeat import models
from advfeat.attacks import perturb
from advfeat.augmentation import FlipAndShift
from advfeat.checkpoint import Checkpoint, TrainingState
from advfeat.digest import canonical_json, derived_seed
from advfeat.engine import Engine, step_flop
from advfeat.errors import StageFailedError
from advfeat.hardware import can_compile, choose_precision, device
from advfeat.progress import Progress
from advfeat.spec import Attack, Schedule, TrainSpec
from advfeat.tensor_file import raw_bytes

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; at least one step."""

_ANNEALING: dict[Schedule, Literal["cos", "linear"]] = {"one-cycle": "cos", "triangular": "linear"}

_COMPILATION_PAYS_FROM_FLOP = {("cpu", "bf16"): 3e14, ("cuda", "bf16"): 5e15}


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
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    losses: list[float] | None = None,
) -> models.Normalized:
    """Train a fresh network and return it in evaluation mode.

    ``images`` are uint8 or float32 in [0, 1], (N, C, H, W); ``labels`` int64 (N,), or float32
    probabilities (N, classes) to be learned (distillation, Hinton et al. 2015). The same arguments
    give the same weights on the same machine, also if the training was interrupted and goes on from
    ``checkpoint``. With ``spec.adversarial`` the network sees adversarial examples only (Madry et al.
    2018), with ``spec.ema_decay`` the returned weights are the moving average. ``progress`` counts
    images over all epochs, and ``losses`` is filled with each epoch's mean loss.

    In a process group of ``spec.workers`` processes each trains on its share of every batch, with
    DistributedDataParallel, and all return the same network. The first one keeps the checkpoints, and
    one at the end: from it a process alone has the network without training. Raises
    ``StageFailedError`` where there is neither that checkpoint nor such a group.
    """
    _compute_repeatably(spec.threads)
    where = device()
    identity = "" if checkpoint is None else _identity(images, labels, spec, classes, seed)
    images, labels = images.to(where), labels.to(where)
    hard_labels = labels if labels.ndim == 1 else labels.argmax(1)
    model = _initialized(images, spec, classes, seed).to(where).to(memory_format=torch.channels_last)
    model.set_statistics(*_statistics(images))
    average = None if spec.ema_decay is None else _moving_average(model, spec.ema_decay)
    optimizer, schedule = _optimizer(model, spec, steps=spec.epochs * -(-len(labels) // spec.batch_size))
    generator = torch.Generator().manual_seed(derived_seed(seed, "batches"))
    networks: dict[str, nn.Module] = {"model": model} | ({} if average is None else {"average": average})
    state = TrainingState(identity, networks, optimizer, schedule, generator)
    first_epoch = 0 if checkpoint is None else state.restore(checkpoint.load())
    last_kept = time.monotonic()
    rank, workers = _place_among_workers()
    if workers != spec.workers and first_epoch < spec.epochs:
        raise StageFailedError(
            f"training.workers: {spec.workers} processes have to train together, here are {workers}; "
            "start them as one process group, or on Ray as a stage of a run does"
        )
    share = slice(rank, None, workers)

    precision, network = _fast_forward(model, images, spec)
    moved = FlipAndShift(images) if spec.augmentation == "flip-crop" else None
    seen = first_epoch * len(labels)
    losses = [] if losses is None else losses
    losses[:] = state.losses
    model.train()
    for epoch in range(first_epoch, spec.epochs):
        total_loss, trained_on = torch.zeros((), device=where), 0
        for number, rows in enumerate(_shuffled_batches(len(labels), spec.batch_size, workers, generator)):
            here = rows[share].to(where)
            batch = as_pixels(images[here] if moved is None else moved.batch(rows, generator, share))
            batch = batch.contiguous(memory_format=torch.channels_last)
            with torch.autocast(where.type, torch.bfloat16, enabled=precision == "bf16"):
                if spec.adversarial is not None:
                    attack_seed = derived_seed(seed, "adversarial", epoch, number * workers + rank)
                    batch = _adversarial(model, batch, hard_labels[here], spec.adversarial, attack_seed)
                # A last, smaller batch is not worth a compilation of its own; workers need their wrapper.
                logits = (network if len(rows) == spec.batch_size or workers > 1 else model)(batch)
            loss = F.cross_entropy(logits.float(), labels[here], label_smoothing=spec.label_smoothing)
            loss = loss * (workers * len(here) / len(rows))  # gradients are averaged over workers
            total_loss += loss.detach() * (len(rows) / workers)
            trained_on += len(rows)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            schedule.step()
            if average is not None:
                average.update_parameters(model)
            seen += len(rows)
            if progress is not None:
                progress(seen, spec.epochs * len(labels))
        if workers > 1:
            distributed.all_reduce(total_loss)
        state.losses.append(float(total_loss) / max(1, trained_on))
        losses[:] = state.losses
        if checkpoint is not None and rank == 0:
            result_of_workers = workers > 1 and epoch + 1 == spec.epochs
            if result_of_workers or time.monotonic() - last_kept >= checkpoint.seconds_between:
                checkpoint.save(state.to_bytes(epoch + 1))
                last_kept = time.monotonic()
    trained: models.Normalized = model if average is None else average.module
    return trained.eval().to(memory_format=torch.contiguous_format)


def _compute_repeatably(threads: int) -> None:
    torch.set_num_threads(threads)
    # Some CUDA kernels have no deterministic twin: there a warning, not an error.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)


def _optimizer(
    model: nn.Module, spec: TrainSpec, steps: int
) -> tuple[torch.optim.SGD, torch.optim.lr_scheduler.OneCycleLR]:
    optimizer = torch.optim.SGD(
        model.parameters(),
        lr=spec.learning_rate,
        momentum=spec.momentum,
        weight_decay=spec.weight_decay,
        nesterov=spec.momentum > 0,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        spec.learning_rate,
        total_steps=1 + steps,
        pct_start=max(_WARM_UP, 2 / (1 + steps)),
        anneal_strategy=_ANNEALING[spec.schedule],
        cycle_momentum=False,
    )
    return optimizer, schedule


def _place_among_workers() -> tuple[int, int]:
    """Return this process's rank and the number of processes that train together."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 0, 1
    return distributed.get_rank(), distributed.get_world_size()


def _fast_forward(
    model: models.Normalized, images: Tensor, spec: TrainSpec
) -> tuple[Literal["bf16", "fp32"], Callable[[Tensor], Tensor]]:
    """Choose the precision, share the gradients, and compile the model if the whole training pays for it."""
    flop = step_flop(model, as_pixels(images[:1]))
    precision = choose_precision(spec.precision, images.device, flop)
    # Weight gradients cost half as much again as forward and input gradient.
    work = 1.5 * flop * spec.epochs * len(images)
    pays = work >= _COMPILATION_PAYS_FROM_FLOP.get((images.device.type, precision), float("inf"))
    _, workers = _place_among_workers()
    network = model if workers == 1 else DistributedDataParallel(model)
    if not pays or not can_compile(images.device):
        return precision, network
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    return precision, compiled


def _adversarial(model: nn.Module, batch: Tensor, labels: Tensor, attack: Attack, seed: int) -> Tensor:
    return perturb(model, batch, labels, attack, seed=seed, engine=Engine(tile=len(batch)))


def _initialized(images: Tensor, spec: TrainSpec, classes: int, seed: int) -> models.Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "weights"))
        return models.build(spec.model, **shape_arguments(images, spec, classes))


def shape_arguments(images: Tensor, spec: TrainSpec, classes: int) -> dict[str, Any]:
    """Return what ``models.build`` needs to know besides the architecture's name."""
    return {"width": spec.width, "image_shape": list(images.shape[1:]), "classes": classes}


def _moving_average(model: models.Normalized, decay: float) -> Any:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    std, mean = torch.std_mean(as_pixels(images), dim=(0, 2, 3))
    return mean, std


def _shuffled_batches(
    count: int, batch_size: int, workers: int, generator: torch.Generator
) -> Iterator[Tensor]:
    """Yield the rows of each batch of an epoch; a last batch that leaves a worker one image is left out."""
    for rows in torch.randperm(count, generator=generator).split(batch_size):
        if len(rows) >= 2 * workers:  # batch norm needs two
            yield rows


def _identity(images: Tensor, labels: Tensor, spec: TrainSpec, classes: int, seed: int) -> str:
    """Name a training by everything that its result depends on."""
    sha = hashlib.sha256(canonical_json([spec.model_dump(mode="json"), classes, seed]))
    for tensor in (images, labels):
        sha.update(canonical_json([str(tensor.dtype), list(tensor.shape)]))
        sha.update(raw_bytes(tensor))
    return sha.hexdigest()
