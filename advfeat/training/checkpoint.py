"""What a training needs to go on exactly where it was: one safetensors file, sealed with its SHA-256."""

import hashlib
from itertools import chain
from typing import Any, Protocol, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advfeat.errors import first_line
from advfeat.files.tensor_file import TensorFileError, check_alike, pack, unpack

_SEAL_BYTES = 32
_MOVING = ("lr", "_last_lr", "last_epoch", "_step_count")
"""What optimizer and schedule change from step to step; all else is the training's own."""


class Checkpoint(Protocol):
    """Where a training keeps its state."""

    seconds_between: float
    """The least time between two states that are kept; they are taken at ends of epochs."""

    def load(self) -> bytes | None:
        """Return the state that was kept last; None if there is none."""

    def save(self, content: bytes) -> None:
        """Keep a state instead of the one before."""


class TrainingState:
    """Everything that changes while a network is trained."""

    def __init__(
        self,
        identity: str,
        networks: dict[str, nn.Module],
        optimizer: Optimizer,
        schedule: LRScheduler,
        generator: torch.Generator,
    ) -> None:
        self._identity = identity
        self._networks, self._optimizer = networks, optimizer
        self._schedule, self._generator = schedule, generator
        self.losses: list[float] = []
        """The mean loss of each epoch so far."""

    def to_bytes(self, epoch: int) -> bytes:
        """Serialize the state at the end of ``epoch``."""
        tensors = self._tensors()
        optimizer = self._optimizer.state_dict()
        for number, state in optimizer["state"].items():
            tensors |= {f"momentum.{number}": state["momentum_buffer"]}
        header = {
            "identity": self._identity,
            "epoch": epoch,
            "groups": optimizer["param_groups"],
            "schedule": dict(self._schedule.state_dict()),
            "losses": self.losses,
        }
        content = pack(tensors, {"training": header})
        return hashlib.sha256(content).digest() + content

    def restore(self, content: bytes | None) -> int:
        """Take over a state and return its epoch; 0, and nothing changes, if it is none of this training."""
        if content is None:
            return 0
        seal, content = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        if hashlib.sha256(content).digest() != seal:
            return 0
        try:
            tensors, packed = unpack(content, "training")
            header = _Header.model_validate_json(packed)
            self._check_belongs(tensors, header)
        except (TensorFileError, ValidationError):
            return 0
        for name, network in self._networks.items():
            network.load_state_dict(_below(tensors, name))
        momentum = {int(number): {"momentum_buffer": t} for number, t in _below(tensors, "momentum").items()}
        self._optimizer.load_state_dict({"state": momentum, "param_groups": header.groups})
        self._schedule.load_state_dict(header.schedule)
        self._generator.set_state(tensors["generator"])
        self.losses = list(header.losses)
        return header.epoch

    def _tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a state, but for the optimizer's, which has none before its first step."""
        tensors = {"generator": self._generator.get_state()}
        for name, network in self._networks.items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        return tensors

    def _check_belongs(self, tensors: dict[str, Tensor], header: "_Header") -> None:
        """Raise ``TensorFileError`` unless this training could have written the state."""
        groups = self._optimizer.state_dict()["param_groups"]
        schedule = dict(self._schedule.state_dict())
        of_this_training = (
            header.identity == self._identity
            and len(header.losses) == header.epoch
            and _still(header.groups) == _still(groups)
            and _still(header.schedule) == _still(schedule)
        )
        if not of_this_training:
            raise TensorFileError("the state of another training")
        expected = self._tensors()
        if any(name.startswith("momentum.") for name in tensors):
            parameters = chain.from_iterable(group["params"] for group in self._optimizer.param_groups)
            expected |= {f"momentum.{number}": parameter for number, parameter in enumerate(parameters)}
        check_alike(tensors, expected)
        try:
            torch.Generator().set_state(tensors["generator"])
        except RuntimeError as error:
            raise TensorFileError(first_line(error)) from error


class _Group(BaseModel):
    lr: FiniteFloat


class _Schedule(BaseModel):
    last_lr: list[FiniteFloat] = Field(alias="_last_lr")
    last_epoch: int = Field(ge=0)
    step_count: int = Field(ge=0, alias="_step_count")
    total_steps: int

    @model_validator(mode="after")
    def _is_no_further_than_its_end(self) -> Self:
        if self.last_epoch > self.total_steps:
            raise ValueError(f"step {self.last_epoch} of {self.total_steps}")
        return self


class _Header(BaseModel):
    model_config = ConfigDict(extra="forbid")

    identity: str
    epoch: int = Field(ge=1)
    groups: list[dict[str, Any]]
    schedule: dict[str, Any]
    losses: list[float]

    @model_validator(mode="after")
    def _what_moves_can_be_set(self) -> Self:
        for group in self.groups:
            _Group.model_validate(group)
        _Schedule.model_validate(self.schedule)
        return self


def _still(value: Any) -> Any:
    """Return a JSON value without what changes from step to step."""
    if isinstance(value, dict):
        return {name: _still(inner) for name, inner in value.items() if name not in _MOVING}
    return list(map(_still, value)) if isinstance(value, list | tuple) else value


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
