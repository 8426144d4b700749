"""Computing the same from the same, bit for bit, on one machine."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def repeatable() -> Iterator[None]:
    """Compute by deterministic algorithms, and as the process had it before afterwards."""
    memory: Any = torch.utils.deterministic  # a module with a property, which no stub shows
    algorithms, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    filled = memory.fill_uninitialized_memory
    # Some CUDA kernels have no deterministic twin: there a warning, not an error.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        torch.use_deterministic_algorithms(True, warn_only=True)
        memory.fill_uninitialized_memory = False  # for finding bugs; it writes every tensor once more
        with torch.random.fork_rng():
            yield
    finally:
        torch.use_deterministic_algorithms(algorithms, warn_only=warns)
        memory.fill_uninitialized_memory = filled
