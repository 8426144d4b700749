"""What a training needs to go on exactly where it was: one safetensors file, sealed with its SHA-256."""

import hashlib
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from advfeat.tensor_file import pack, read_header

_SEAL_BYTES = 32


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
        tensors = {"generator": self._generator.get_state()}
        for name, network in self._networks.items():
            tensors |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
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
        header = read_header(content, "training")
        if header["identity"] != self._identity:
            return 0
        tensors = safetensors.torch.load(content)
        for name, network in self._networks.items():
            network.load_state_dict(_below(tensors, name))
        momentum = {int(number): {"momentum_buffer": t} for number, t in _below(tensors, "momentum").items()}
        self._optimizer.load_state_dict({"state": momentum, "param_groups": header["groups"]})
        self._schedule.load_state_dict(header["schedule"])
        self._generator.set_state(tensors["generator"])
        self.losses = list(header["losses"])
        return int(header["epoch"])


def _below(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    prefix = f"{name}."
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
