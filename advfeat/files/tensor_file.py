"""Tensors <-> bytes: safetensors with JSON in the header, so that reading runs no code.

What a header says of itself is believed only as far as bytes bear it out: safetensors checks places and
sizes against the file's length, and ``check_alike`` names, shapes and dtypes against a network's.
"""

import json
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from advfeat.errors import first_line


def pack(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> bytes:
    """Serialize tensors, wherever they lie, under a header of JSON values."""
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return safetensors.torch.save(
        kept, {name: json.dumps(value, sort_keys=True) for name, value in header.items()}
    )


class TensorFileError(ValueError):
    """Bytes that are no tensor file, or not one of the tensors that were expected."""


def unpack(content: bytes, name: str) -> tuple[dict[str, Tensor], bytes]:
    """Return the tensors and one value of the header, as JSON; raises ``TensorFileError``."""
    try:
        tensors = safetensors.torch.load(content)
        # Its form was checked just now: a flat table of texts.
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        value: str = header["__metadata__"][name]
        return tensors, value.encode()
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise TensorFileError(first_line(error)) from error


def check_alike(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise ``TensorFileError`` unless names, shapes and dtypes are those of the expected tensors."""
    if tensors.keys() != expected.keys():
        name = min(tensors.keys() ^ expected.keys())
        raise TensorFileError(f"tensor {name} is {'missing' if name in expected else 'not expected'}")
    for name, tensor in tensors.items():
        found, wanted = ((tuple(t.shape), t.dtype) for t in (tensor, expected[name]))
        if found != wanted:
            raise TensorFileError(f"tensor {name} is {found}, not {wanted}")


def raw_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values as they lie in memory, row by row, to take a digest of."""
    return tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().data
