"""The ways to compile an attack step for a GPU, each under its name, and how fast each is on this card.

None is the fastest everywhere. Which is, depends on the card, its libraries, the network and the tile, so it
is found by timing them (``step_choice.py``). Each is held against the step that it was made from first.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from advfeat.attacks.fused_convolutions import fuse_relus
from advfeat.attacks.step_graph import Example, Step, frozen_step, likeness, trace_step
from advfeat.errors import first_line

Candidate = Callable[[Step, Example], tuple[Step, tuple[Tensor, ...]]]
"""(step, example) -> the compiled step, and what it makes of the example; raises where it cannot."""

PRESENT = "inductor"
"""Weights as constants, convolutions of the library: what every other form has to outdo."""

_LEAST_ALIKE = 0.5
"""The share of images that any form has to lead as the step does: rounding turns others."""

_LESS_ALIKE = 0.01
"""By how much fewer images a candidate may lead the same way than the present one, as a share."""

_STEPS, _REPETITIONS = 5, 3
_POISON_BYTES = 1 << 30


@dataclass(frozen=True)
class Timed:
    """What was found of a candidate at a tile: its rate, or the problem that it has."""

    name: str
    tile: int
    image_steps_per_second: float
    """Zero for one that has a problem."""
    seconds: float
    """Until it could be used: tracing, compiling, checking."""
    alike: float
    """The share of images that it leads as the uncompiled step does, but for rounding."""
    problem: str = ""


def _with_fused_relus(step: Step, example: Example) -> tuple[Step, tuple[Tensor, ...]]:
    return _compiled(_fused(trace_step(step, example)), example)


def _without_spreading(step: Step, example: Example) -> tuple[Step, tuple[Tensor, ...]]:
    return _compiled(_fused(trace_step(step, example, spreading=False)), example)


def _autotuned(step: Step, example: Example) -> tuple[Step, tuple[Tensor, ...]]:
    return _compiled(trace_step(step, example), example, max_autotune=True)


CANDIDATES: dict[str, Candidate] = {
    PRESENT: frozen_step,
    "fused relus": _with_fused_relus,
    "fused relus, gradients not spread": _without_spreading,
    "autotuned": _autotuned,
}
"""By name; ``autotuned`` has kernels that inductor writes and times, with element-wise work at their end."""


def try_candidate(name: str, step: Step, example: Example, floor: float = _LEAST_ALIKE) -> tuple[Timed, Step]:
    """Compile, check and time a candidate; return what was found, and the compiled step.

    One that fails, or leads less than the share ``floor`` of the images as the step does, has a problem and
    must not be used; the step itself is returned then. To be called under ``torch.no_grad()``. Raises
    ``torch.OutOfMemoryError``.
    """
    start, tile, alike, rate = time.perf_counter(), len(example[0]), 0.0, 0.0
    compiled, problem = step, ""
    try:
        made, found = CANDIDATES[name](step, example)
        if example[0].device.type == "cuda":
            del found
            _poison_free_memory(example[0].device)
            found = made(*example)
        alike = likeness(found, step(*example), example)
        if alike >= floor:
            compiled = made
        else:
            problem = f"leads {1 - alike:.0%} of the images elsewhere"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # what tracers and compilers raise has no common type
        problem = f"{type(error).__name__}: {first_line(error)}"
    seconds = time.perf_counter() - start
    if not problem:
        rate = image_steps_per_second(compiled, example)
    return Timed(name, tile, rate, seconds, alike, problem), compiled


def least_alike(present: Timed) -> float:
    """Return the share of images that other candidates must lead as the step does."""
    return max(_LEAST_ALIKE, present.alike - _LESS_ALIKE)


def image_steps_per_second(step: Step, example: Example) -> float:
    """Return how many image-steps a second a step takes, the best of a few short runs."""
    images, start, labels, *rest = example
    best = float("inf")
    for _ in range(_REPETITIONS):
        perturbation, state = start, list(rest)
        _wait_for(images.device)
        begun = time.perf_counter()
        for _ in range(_STEPS):
            perturbation, _, *state = step(images, perturbation, labels, *state)
        _wait_for(images.device)
        best = min(best, time.perf_counter() - begun)
    return _STEPS * len(images) / best


def _wait_for(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize(where)


def _poison_free_memory(where: torch.device) -> None:
    """Leave NaN in the memory that is used next: a kernel that looks at its result's old values shows."""
    torch.cuda.empty_cache()
    count = min(_POISON_BYTES, torch.cuda.mem_get_info(where)[0] // 4) // 4
    torch.full((count,), torch.nan, dtype=torch.float32, device=where)


def _fused(traced: fx.GraphModule) -> fx.GraphModule:
    if not fuse_relus(traced):
        raise ValueError("no relu follows a convolution with a bias")
    return traced


def _compiled(traced: fx.GraphModule, example: Example, **settings: Any) -> tuple[Step, tuple[Tensor, ...]]:
    """Compile a traced step that takes its weights as inputs.

    So what is compiled serves other weights of the same network too, and torch keeps it on disk for other
    processes, which it does not do for a graph that has them as constants.
    """
    import torch._inductor.config as inductor

    weights = with_weights_as_inputs(traced)
    if example[0].device.type == "cpu":
        settings["compile_threads"] = 1
    with inductor.patch({"freezing": False, **settings}):
        compiled = torch.compile(traced, dynamic=False, fullgraph=True)

        def step(*given: Tensor) -> tuple[Tensor, ...]:
            made: tuple[Tensor, ...] = compiled(*weights, *given)
            return made

        return step, step(*example)


def with_weights_as_inputs(traced: fx.GraphModule) -> list[Tensor]:
    """Let a graph take its constants as its first inputs, in place; return them.

    What the graph computes from constants alone, such as flipped kernels, is computed here, once.
    """
    graph, values = traced.graph, _constant_values(traced)
    needed = [node for node in values if any(user not in values for user in node.users)]
    first = next(iter(graph.nodes))
    weights = []
    for number, node in enumerate(needed):
        with graph.inserting_before(first):
            taken = graph.placeholder(f"weight_{number}")
        node.replace_all_uses_with(taken, delete_user_cb=lambda user: user not in values)
        weight = values[node].detach()
        packed = weight.contiguous(memory_format=torch.channels_last) if weight.ndim == 4 else weight
        weights.append(packed)
    for node in reversed(list(values)):
        graph.erase_node(node)
    traced.recompile()
    return weights


def _constant_values(traced: fx.GraphModule) -> dict[fx.Node, Tensor]:
    """Return the nodes of a graph whose values depend on no input, and these, in order."""
    values: dict[fx.Node, Tensor] = {}
    for node in traced.graph.nodes:
        if node.op == "get_attr":
            values[node] = getattr(traced, node.target)
        elif node.op == "call_function" and node.all_input_nodes:
            if any(each in values for each in _changed_by(node)):
                raise ValueError(f"{node.name} changes a constant in place")
            if not all(each in values for each in node.all_input_nodes):
                continue
            given, named = fx.node.map_arg((node.args, node.kwargs), lambda each: values[each])
            value = node.target(*given, **named)
            if isinstance(value, Tensor):
                values[node] = value
    return values


def _changed_by(node: fx.Node) -> list[Any]:
    """Return what a node computes in place of."""
    if not isinstance(node.target, torch._ops.OpOverload):
        return []
    declared = node.target._schema.arguments
    return [
        given
        for given, argument in zip(node.args, declared, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
