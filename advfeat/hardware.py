"""What this machine computes on, and what it is good at."""

import ctypes
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import chain
from typing import Literal

import torch
from torch import nn

from advfeat.spec import Precision

_CPU = torch.device("cpu")

_BF16_PAYS_ON_CPU_FROM_FLOP = 20e6
"""Of one forward and input gradient of an image; below, conversions cost more than they bring."""


# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def device() -> torch.device:
    """Return this thread's accelerator if the machine has one, else the CPU."""
    # With its number: another thread has a current accelerator of its own.
    return torch.device("cuda", torch.cuda.current_device()) if torch.cuda.is_available() else _CPU


def device_of(model: nn.Module) -> torch.device:
    """Return where a model's parameters lie, or its buffers; the CPU if it has none."""
    return next((tensor.device for tensor in chain(model.parameters(), model.buffers())), _CPU)


def sent(tensor: torch.Tensor, where: torch.device) -> torch.Tensor:
    """Return a tensor on a device; what goes to a GPU goes without waiting for it."""
    if where.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(where, non_blocking=where.type == "cuda")


def choose_precision(wanted: Precision, where: torch.device, flop: int) -> Literal["bf16", "fp32"]:
    """Return the precision to compute in, for a network that takes ``flop`` an image."""
    if wanted != "auto":
        return wanted
    pays = where.type != "cpu" or flop >= _BF16_PAYS_ON_CPU_FROM_FLOP
    return "bf16" if pays and has_bf16(where) else "fp32"


def has_bf16(where: torch.device) -> bool:
    """Return whether the processor multiplies bf16 in hardware."""
    if where.type == "cuda":
        return torch.cuda.get_device_capability(where) >= (8, 0)
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


def multiplies_tiles(where: torch.device) -> bool:
    """Return whether a CPU multiplies tiles of 16 rows of bf16 (AMX)."""
    return where.type == "cpu" and bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def in_words(where: torch.device) -> str:
    """Name a device in a message, a GPU with its memory."""
    if where.type != "cuda":
        return f"the {where.type.upper()}"
    free, total = (f"{size / 2**30:.1f}" for size in torch.cuda.mem_get_info(where))
    return f"the {torch.cuda.get_device_name(where)} ({free} of {total} GiB free)"


def can_compile(where: torch.device) -> bool:
    """Return whether the compiler that torch.compile needs for ``where`` is installed."""
    name = os.environ.get("CXX", "g++") if where.type == "cpu" else os.environ.get("CC", "gcc")
    return shutil.which(name) is not None


@cache
def keep_freed_memory() -> None:
    """Let this process keep 256 MiB of what its tensors free, where its C library is glibc.

    By itself that gives tensors of more than 128 KiB back to the system now and then, and the next step
    takes their pages anew: up to a third of the time of a small network on a processor.
    """
    if (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)) is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)  # the most that it takes
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


@contextmanager
def true_fp32() -> Iterator[None]:
    """Multiply float32 as float32: torch lets convolutions on GPUs round to TF32, and CPUs too if told so."""
    backends = torch.backends
    settings = (backends.cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul)  # type: ignore[attr-defined]
    before = [setting.fp32_precision for setting in settings]
    try:
        for setting in settings:
            setting.fp32_precision = "ieee"
        yield
    finally:
        for setting, precision in zip(settings, before, strict=True):
            setting.fp32_precision = precision
