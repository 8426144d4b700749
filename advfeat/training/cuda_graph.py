"""Kernels recorded as one CUDA graph, which a GPU launches at once."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache

import torch

_WARM_UPS = 2


def record(compute: Callable[[], None]) -> Callable[[], None]:
    """Return a function that launches again, on the same memory, all kernels that ``compute`` launches.

    ``compute`` is called a few times before, in which libraries choose their kernels and take memory
    (docs.pytorch.org/docs/stable/notes/cuda.html, "CUDA Graphs"), and once to be recorded, in which no
    kernel runs. Raises what it raises, and ``RuntimeError`` where it waits for the GPU.
    """
    stream, before = _stream(torch.cuda.current_device()), torch.cuda.current_stream()
    stream.wait_stream(before)
    # Once more than ``torch.cuda.graph``, which leaves its stream the current one where recording fails.
    try:
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UPS):
                compute()
            graph, pool = torch.cuda.CUDAGraph(), torch.cuda.graph_pool_handle()
            try:
                # Threads that read ahead may take memory meanwhile.
                with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                    compute()
            except BaseException:
                _end(graph, pool)
                raise
    finally:
        before.wait_stream(stream)
    return graph.replay


@cache
def _stream(where: int) -> torch.cuda.Stream:
    """Return the stream that a device's steps are recorded on: each keeps memory of the libraries' own."""
    return torch.cuda.Stream(where)


def _end(graph: torch.cuda.CUDAGraph, pool: tuple[int, int]) -> None:
    """Leave nothing of a recording that failed: older versions of torch would go on with it half-way."""
    graph.reset()
    where = torch.cuda.current_device()
    with suppress(Exception):  # where the reset has done it
        torch._C._cuda_endAllocateToPool(where, pool)
        torch._C._cuda_releasePool(where, pool)
    generator = torch.cuda.default_generators[where]
    generator.graphsafe_set_state(generator.clone_state())
