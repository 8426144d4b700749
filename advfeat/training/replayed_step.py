"""A training step that a GPU launches as a whole: one CUDA graph in place of hundreds of kernels.

A step of a small network takes longer to launch, kernel after kernel, than to compute. A graph is recorded
once and replayed, with other values in the same buffers. What Python does in a step is not replayed: so a
network is rehearsed on a copy, which shows what it leaves to Python, and replayed steps are held against
plain ones before they are used. Where anything fails, plain steps go on, and a warning says why.
"""

import copy
import math
import random
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from advfeat.errors import first_line
from advfeat.training.step import TrainingStep, align_momentum

REPLAYING_PAYS_FROM_STEPS = 200
"""Of a whole training; to record a step and to compare it takes about ten of them."""

_SAME_LOSS, _SAME_MOVE = 1e-3, 1e-2
"""How far the loss, and how far all weights together move, may differ by rounding, as a share."""

Launch = Callable[[], None]
Batches = list[tuple[Tensor, Tensor]]
"""Of pixels and labels."""


class ReplayedStep:
    """Replays whole batches of a training; takes smaller ones, and the first of all, plainly.

    ``record`` takes a function that only launches kernels, and returns one that launches the same again.
    """

    def __init__(self, step: TrainingStep, record: Callable[[Launch], Launch]) -> None:
        self._step, self._record = step, record
        self._recorded: _RecordedStep | None = None
        self._may_be_replayed = True

    def take(self, pixels: Tensor, labels: Tensor, size: int) -> None:
        """Learn from a batch of ``size`` images, as ``TrainingStep.take`` does."""
        whole = size == self._step.batch_size
        if whole and self._recorded is None and self._may_be_replayed and self._step.has_begun:
            self._recorded = self._prepared(pixels, labels)
            self._may_be_replayed = self._recorded is not None
        if whole and self._recorded is not None:
            self._recorded.take(pixels, labels)
        else:
            self._step.take(pixels, labels, size)

    def _prepared(self, pixels: Tensor, labels: Tensor) -> "_RecordedStep | None":
        """Return the step to replay, if there can be one; nothing that the training changes has changed."""
        others = torch.empty_like(pixels).copy_(pixels.flip(0))
        batches = [(pixels, labels), (others, labels), (pixels, labels)]
        align_momentum(self._step.optimizer)
        try:
            with _random_numbers_kept(pixels.device):
                wanted = _rehearsed(copy.deepcopy(self._step), batches)
                with _kept(self._step):
                    recorded = _RecordedStep(self._step, pixels, labels, self._record)
                with _kept(self._step):
                    found = _moves(self._step, recorded.take, batches)
            _check_alike(found, wanted)
        except Exception as error:  # what a user's forward and CUDA raise has no common type
            name = type(self._step.model.network).__name__
            told = (
                str(error)
                if isinstance(error, _NotReplayableError)
                else f"{type(error).__name__}: {first_line(error)}"
            )
            warnings.warn(f"{name}: training steps are launched kernel by kernel ({told})", stacklevel=4)
            return None
        return recorded


class _NotReplayableError(Exception):
    """A step does more than its kernels do."""


class _RecordedStep:
    """A recorded step, with the buffers that it reads a batch and the learning rate from."""

    def __init__(
        self, step: TrainingStep, pixels: Tensor, labels: Tensor, record: Callable[[Launch], Launch]
    ) -> None:
        self._step = step
        self._pixels, self._labels = pixels.clone(), labels.clone()
        self._rate = torch.zeros((), dtype=torch.float32, device=pixels.device)
        self._launch = record(lambda: step.take_on_device(self._pixels, self._labels, self._rate))

    def take(self, pixels: Tensor, labels: Tensor) -> None:
        """Learn from a batch of the recorded shape at the optimizer's rate, without waiting for anything."""
        self._pixels.copy_(pixels)
        self._labels.copy_(labels)
        self._rate.fill_(self._step.optimizer.param_groups[0]["lr"])
        self._launch()
        if self._step.average is not None:
            self._step.average.n_averaged += 1


def _rehearsed(step: TrainingStep, batches: Batches) -> dict[str, list[Tensor]]:
    """Return how plain steps move a copy; raise ``_NotReplayableError`` if Python has a part in it."""
    attributes, drawn = _attributes(step.model), []

    def take(pixels: Tensor, labels: Tensor) -> None:
        before = _random_state()
        step.take(pixels, labels, len(labels))
        drawn.append(_random_state() != before)

    moves = _moves(step, take, batches)
    if any(drawn):
        raise _NotReplayableError("its forward draws random numbers on the CPU")
    after = _attributes(step.model)
    for name in attributes | after:
        if not _are_same(attributes.get(name), after.get(name)):
            raise _NotReplayableError(f"its forward sets {name}")
    return moves


def _moves(
    step: TrainingStep, take: Callable[[Tensor, Tensor], None], batches: Batches
) -> dict[str, list[Tensor]]:
    """Take steps and return by how much each tensor that they change has moved."""
    torch.manual_seed(0)
    before = _values(step)
    for pixels, labels in batches:
        take(pixels, labels)
    after = _values(step)
    return {kind: [b.sub_(a) for a, b in zip(before[kind], after[kind], strict=True)] for kind in before}


def _values(step: TrainingStep) -> dict[str, list[Tensor]]:
    return {
        kind: [
            each.detach().clone() if each.is_floating_point() else each.detach().double() for each in tensors
        ]
        for kind, tensors in step.tensors().items()
    }


def _check_alike(found: dict[str, list[Tensor]], wanted: dict[str, list[Tensor]]) -> None:
    """Raise ``_NotReplayableError`` if two ways to take the same steps differ by more than rounding."""
    for kind, moves in wanted.items():
        apart = _length(a - b for a, b in zip(found[kind], moves, strict=True))
        length = _length(moves)
        if not apart <= (_SAME_LOSS if kind == "loss" else _SAME_MOVE) * length:
            raise _NotReplayableError(
                f"replayed, its {kind} would change otherwise, by {apart:.2g} of {length:.2g}"
            )


def _length(moves: Iterable[Tensor]) -> float:
    return math.sqrt(sum(float(move.double().square().sum()) for move in moves))


@contextmanager
def _kept(step: TrainingStep) -> Iterator[None]:
    """Set back all that a step changes."""
    tensors = list(chain.from_iterable(step.tensors().values()))
    values = [each.detach().clone() for each in tensors]
    counted = None if step.average is None else int(step.average.n_averaged)
    try:
        yield
    finally:
        with torch.no_grad():
            for each, value in zip(tensors, values, strict=True):
                each.copy_(value)
        if step.average is not None and counted is not None:
            step.average.n_averaged.fill_(counted)


@contextmanager
def _random_numbers_kept(where: torch.device) -> Iterator[None]:
    """Let the random numbers of the training, and of the process, go on where they were."""
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng([where] if where.type == "cuda" else []):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _random_state() -> tuple[object, ...]:
    """Return where the random numbers are that a forward pass may draw on the CPU."""
    name, keys, *others = np.random.get_state(legacy=True)
    assert isinstance(keys, np.ndarray)
    return random.getstate(), name, keys.tobytes(), *others, torch.get_rng_state().numpy().tobytes()


_PLAIN = (bool, int, float, str, tuple, list, dict, set, type(None))


def _attributes(model: nn.Module) -> dict[str, tuple[Any, str]]:
    """Return the attributes of a network and its parts: each value, and the text of one that has a text."""
    of_every_module = vars(nn.Module()).keys() - {"training"}
    found: dict[str, tuple[Any, str]] = {}
    for name, module in model.named_modules():
        own = {key: value for key, value in vars(module).items() if key not in of_every_module}
        for key, value in {**own, **module._buffers, **module._parameters}.items():
            found[f"{name}.{key}".lstrip(".")] = value, repr(value) if isinstance(value, _PLAIN) else ""
    return found


def _are_same(before: tuple[Any, str] | None, after: tuple[Any, str] | None) -> bool:
    if before is None or after is None:
        return False
    return before[1] == after[1] if before[1] else before[0] is after[0]
