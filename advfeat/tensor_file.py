"""Tensors <-> bytes: safetensors with JSON in the header, so that reading runs no code."""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from torch import Tensor


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Serialize tensors, wherever they lie, under a header of JSON values."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(
        kept, {name: json.dumps(value, sort_keys=True) for name, value in header.items()}
    )


def read_header(content: bytes, name: str) -> Any:
    """Return one value of the header; raises ``KeyError``, ``TypeError`` or ``ValueError``."""
    everything = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return json.loads(everything["__metadata__"][name])


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values as they lie in memory, row by row, to take a digest of."""
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data
