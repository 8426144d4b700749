"""Training: SGD with Nesterov momentum under a one-cycle schedule, a window of data on the device.

In the manner of the fast CIFAR-10 trainers (Page 2019, "How to train your ResNet"; Jordan 2024,
airbench): images stay on the device as uint8, augmentation happens there, channels_last, bf16 where the
processor has it, compiled where the work pays for it; on a GPU a step is replayed as one CUDA graph.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from advfeat.attacks import Engine, perturb, step_flop
from advfeat.digest import canonical_json, derived_seed
from advfeat.errors import StageFailedError
from advfeat.files.parts import PART_BYTES, WINDOW_PARTS
from advfeat.hardware import can_compile, choose_precision, device, keep_freed_memory
from advfeat.models import Normalized, as_pixels, build
from advfeat.progress import Progress
from advfeat.spec import Attack, Schedule, TrainSpec
from advfeat.training.batches import random_batches
from advfeat.training.checkpoint import Checkpoint, TrainingState
from advfeat.training.cuda_graph import record
from advfeat.training.repeatable import repeatable
from advfeat.training.replayed_step import REPLAYING_PAYS_FROM_STEPS, ReplayedStep
from advfeat.training.step import TrainingStep
from advfeat.training.windows import TrainingSet

_WARM_UP = 0.2
"""Share of the steps in which the learning rate rises; at least one step."""

_ANNEALING: dict[Schedule, Literal["cos", "linear"]] = {"one-cycle": "cos", "triangular": "linear"}

_COMPILATION_PAYS_FROM_FLOP = {("cpu", "bf16"): 3e14, ("cuda", "bf16"): 5e15}


def mean_and_std(pieces: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation of each channel over all pieces, float32 (C,).

    A piece is images (n, C, H, W), uint8 or float32 in [0, 1]; the result is in units of the latter. Pieces
    are joined in float64 (Chan et al. 1983, "Algorithms for Computing the Sample Variance").
    """
    count, mean, squares = 0, torch.zeros(()), torch.zeros(())
    for piece in pieces:
        std, own_mean = (value.double() for value in torch.std_mean(as_pixels(piece), dim=(0, 2, 3)))
        own_count = piece[:, 0].numel()
        joined = count + own_count
        distance = own_mean - mean
        squares = squares + std.square() * (own_count - 1) + distance.square() * (count * own_count / joined)
        mean = mean + distance * (own_count / joined)
        count = joined
    return mean.float(), (squares / (count - 1)).sqrt().float()


@repeatable()
def fit(
    data: TrainingSet,
    spec: TrainSpec,
    *,
    classes: int,
    seed: int,
    checkpoint: Checkpoint | None = None,
    progress: Progress | None = None,
    losses: list[float] | None = None,
) -> Normalized:
    """Train a fresh network, a window of the data after the other, and return it in evaluation mode.

    The same arguments give the same weights on the same machine, also if the training was interrupted and
    goes on from ``checkpoint``. With ``spec.adversarial`` the network sees adversarial examples only (Madry
    et al. 2018), with ``spec.ema_decay`` the returned weights are the moving average. Labels that are
    probabilities are learned as such (distillation, Hinton et al. 2015). ``progress`` counts images over
    all epochs, and ``losses`` is filled with each epoch's mean loss.

    In a process group of ``spec.workers`` processes each trains on its share of every batch, with
    DistributedDataParallel, and all return the same network. The first one keeps the checkpoints, and
    one at the end: from it a process alone has the network without training. Raises
    ``StageFailedError`` where there is neither that checkpoint nor such a group, and what reading the
    data raises.
    """
    keep_freed_memory()
    torch.set_num_threads(spec.threads)
    where = device()
    identity = "" if checkpoint is None else _identity(data, spec, classes, seed)
    model = _initialized(data.image_shape, spec, classes, seed).to(where)
    model = model.to(memory_format=torch.channels_last)
    model.set_statistics(*mean_and_std(_pieces(data)))
    average = None if spec.ema_decay is None else _moving_average(model, spec.ema_decay)
    windows = [data.of_epoch(seed, epoch) for epoch in range(spec.epochs)]
    steps = sum(-(-data.rows(window) // spec.batch_size) for window in chain.from_iterable(windows))
    optimizer, schedule = _optimizer(model, spec, steps)
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

    flop = step_flop(model, torch.zeros(1, *data.image_shape, device=where))
    precision = choose_precision(spec.precision, where, flop)
    recorder = _recorder(where, steps, workers)
    # Weight gradients cost half as much again as forward and input gradient.
    work = 1.5 * flop * spec.epochs * len(data)
    pays = recorder is None and work >= _COMPILATION_PAYS_FROM_FLOP.get((where.type, precision), float("inf"))
    step = TrainingStep(
        model,
        _network(model, where, may_compile=pays, workers=workers),
        optimizer,
        average,
        precision=precision,
        label_smoothing=spec.label_smoothing,
        batch_size=spec.batch_size,
        workers=workers,
        where=where,
    )
    taken = step if recorder is None else ReplayedStep(step, recorder)
    seen = first_epoch * len(data)
    losses = [] if losses is None else losses
    losses[:] = state.losses
    model.train()
    stream = data.stream(chain.from_iterable(windows[first_epoch:]))
    for epoch in range(first_epoch, spec.epochs):
        # Ours draw nothing; another network's dropout draws the same however often its training went on.
        torch.manual_seed(derived_seed(seed, "forward", epoch, rank))
        trained_on = 0
        step.total_loss.zero_()
        batches = chain.from_iterable(
            random_batches(window, spec.batch_size, spec.augmentation, generator, rank, workers)
            for window in islice(stream, len(windows[epoch]))
        )
        for number, batch in enumerate(batches):
            pixels = batch.pixels
            if spec.adversarial is not None:
                attack_seed = derived_seed(seed, "adversarial", epoch, number * workers + rank)
                engine = _attacking(spec.adversarial, precision, len(pixels))
                aims = batch.hard_labels
                pixels = perturb(model, pixels, aims, spec.adversarial, seed=attack_seed, engine=engine)
            taken.take(pixels, batch.labels, batch.size)
            schedule.step()
            trained_on += batch.size
            seen += batch.size
            if progress is not None:
                progress(seen, spec.epochs * len(data))
        if workers > 1:
            distributed.all_reduce(step.total_loss)
        state.losses.append(float(step.total_loss) / max(1, trained_on))
        losses[:] = state.losses
        if checkpoint is not None and rank == 0:
            result_of_workers = workers > 1 and epoch + 1 == spec.epochs
            if result_of_workers or time.monotonic() - last_kept >= checkpoint.seconds_between:
                checkpoint.save(state.to_bytes(epoch + 1))
                last_kept = time.monotonic()
    optimizer.zero_grad(set_to_none=True)
    trained: Normalized = model if average is None else average.module
    return trained.eval().to(memory_format=torch.contiguous_format)


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


def _recorder(
    where: torch.device, steps: int, workers: int
) -> Callable[[Callable[[], None]], Callable[[], None]] | None:
    """Return what records a step to be replayed, where replaying pays: on a GPU, if there are many steps."""
    return record if where.type == "cuda" and workers == 1 and steps >= REPLAYING_PAYS_FROM_STEPS else None


def _network(
    model: Normalized, where: torch.device, *, may_compile: bool, workers: int
) -> Callable[[Tensor], Tensor]:
    """Return what computes whole batches: the model, its gradients shared, and compiled if that pays."""
    network = model if workers == 1 else DistributedDataParallel(model)
    if not may_compile or not can_compile(where):
        return network
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, dynamic=False)
    return compiled


def _attacking(attack: Attack, precision: Literal["bf16", "fp32"], rows: int) -> Engine:
    """Choose how a batch is attacked: in the training's precision, if the attack leaves that open.

    Not folded: weights change from batch to batch, and to trace the network each time would cost more.
    """
    return Engine(precision if attack.precision == "auto" else attack.precision, tile=rows)


def _initialized(image_shape: tuple[int, ...], spec: TrainSpec, classes: int, seed: int) -> Normalized:
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, "weights"))
        return build(spec.model, **shape_arguments(image_shape, spec, classes))


def shape_arguments(image_shape: tuple[int, ...], spec: TrainSpec, classes: int) -> dict[str, Any]:
    """Return what ``advfeat.models.build`` needs to know besides the architecture's name."""
    return {"width": spec.width, "image_shape": list(image_shape), "classes": classes}


def _moving_average(model: Normalized, decay: float) -> Any:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def _pieces(data: TrainingSet) -> Iterator[Tensor]:
    """Yield all images, as many at a time as would fill a window as float32."""
    rows = max(1, WINDOW_PARTS * PART_BYTES // (4 * prod(data.image_shape)))
    for window in data.stream(data.in_order()):
        yield from window.images.split(rows)


def _identity(data: TrainingSet, spec: TrainSpec, classes: int, seed: int) -> str:
    """Name a training by everything that its result depends on."""
    named = [spec.model_dump(mode="json"), classes, seed, data.identity()]
    return hashlib.sha256(canonical_json(named)).hexdigest()
