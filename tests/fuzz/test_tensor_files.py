"""Damaged model files and checkpoints: read, or refused in one line."""

import hashlib
import json
import struct
from typing import Any

import torch
from hypothesis import given
from torch import nn

from advfeat import models
from advfeat.training.checkpoint import TrainingState
from tests.fuzz.mutation import damaged_bytes, damaged_json
from tests.fuzz.refused import refused_in_a_line
from tests.fuzz.settings import fuzz

ARCHITECTURE = {"name": "cnn", "width": 4, "image_shape": [1, 8, 8], "classes": 3}


def network() -> models.Normalized:
    return models.build("cnn", width=4, image_shape=[1, 8, 8], classes=3)


MODEL = models.to_bytes(network(), ARCHITECTURE)


def parts(tensor_file: bytes) -> tuple[Any, bytes]:
    length = int.from_bytes(tensor_file[:8], "little")
    return json.loads(tensor_file[8 : 8 + length]), tensor_file[8 + length :]


def with_header(tensor_file: bytes, header: str) -> bytes:
    encoded = header.encode(errors="surrogatepass")
    return struct.pack("<Q", len(encoded)) + encoded + parts(tensor_file)[1]


def with_value(tensor_file: bytes, name: str, text: str) -> bytes:
    header, _ = parts(tensor_file)
    return with_header(tensor_file, json.dumps({**header, "__metadata__": {name: text}}))


@fuzz
@given(
    content=damaged_bytes([MODEL])
    | damaged_json([parts(MODEL)[0]]).map(lambda header: with_header(MODEL, header))
    | damaged_json([ARCHITECTURE]).map(lambda text: with_value(MODEL, "architecture", text))
)
def test_model_files(content: bytes) -> None:
    refused_in_a_line(lambda: models.from_bytes(content))


def training_state() -> TrainingState:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=10, cycle_momentum=False)
    networks: dict[str, nn.Module] = {"model": model}
    return TrainingState("this training", networks, optimizer, schedule, torch.Generator())


def checkpoint() -> bytes:
    """Return a state after a step, without its seal."""
    state = training_state()
    model = state._networks["model"]
    model(torch.rand(4, 1, 8, 8)).sum().backward()
    state._optimizer.step()
    state._schedule.step()
    state.losses = [0.5]
    return state.to_bytes(1)[32:]


CHECKPOINT = checkpoint()
TRAINING = json.loads(parts(CHECKPOINT)[0]["__metadata__"]["training"])


@fuzz
@given(
    content=damaged_bytes([CHECKPOINT])
    | damaged_json([parts(CHECKPOINT)[0]]).map(lambda header: with_header(CHECKPOINT, header))
    | damaged_json([TRAINING]).map(lambda text: with_value(CHECKPOINT, "training", text))
)
def test_checkpoints_that_were_sealed_again(content: bytes) -> None:
    torch.manual_seed(0)
    state = training_state()
    before = {name: value.clone() for name, value in state._networks["model"].state_dict().items()}
    epoch = state.restore(hashlib.sha256(content).digest() + content)
    after = state._networks["model"].state_dict()
    assert epoch == len(state.losses)
    if epoch == 0:
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    elif state._schedule.last_epoch < 9:  # whatever it holds, the training can go on
        state._optimizer.step()
        state._schedule.step()
