"""What a stage asks of the Ray nodes that compute it."""

from typing import Any

import ray

from advfeat.storage import SOURCE_MODELS, Stage, StageKind

_ON_ACCELERATOR: set[StageKind] = {*SOURCE_MODELS, "shard", "target_model", "evaluation"}


def resources(stage: Stage, gpus_per_stage: float | None = None) -> dict[str, float]:
    """Return the cores, GPUs and bytes of memory that a stage's task takes on one node.

    ``gpus_per_stage`` is how much of a GPU a stage asks for that computes on one, whether the cluster has any
    now or not; if unset, a whole one where it has. A training by several workers takes none: its workers ask
    for theirs, which a task that held some could keep from them for ever. Memory is an estimate: more than
    the largest node has is not asked for.
    """
    if stage.workers > 1:
        return {"num_cpus": 0}
    gpus = _gpus(stage, gpus_per_stage)
    largest = max((node.get("memory", 0) for node in _nodes() if node.get("GPU", 0) >= gpus), default=0)
    asked: dict[str, float] = {"num_cpus": stage.threads, "memory": int(min(stage.memory_bytes, largest))}
    return asked | ({"num_gpus": gpus} if gpus else {})


def shortage(stage: Stage, gpus_per_stage: float | None = None) -> str | None:
    """Say what no node of the cluster has now, so that the stage waits for nodes to come."""
    gpus = _gpus(stage, gpus_per_stage)
    nodes = [(int(node.get("CPU", 0)), node.get("GPU", 0)) for node in _nodes()]
    fitting = sum(
        min(cores // stage.threads, int(there // gpus) if gpus else stage.workers) for cores, there in nodes
    )
    if fitting >= stage.workers:
        return None
    wanted = f"{stage.threads} cores" + (f" and {gpus:g} GPU" if gpus else "")
    if stage.workers > 1:
        wanted = f"{stage.workers} times {wanted}"
    found = f"{[cores for cores, _ in nodes]}"
    if gpus:
        found += f" and {[int(there) for _, there in nodes]} GPUs"
    return f"takes {wanted}, the nodes of the cluster have {found}; waiting for more"


def cores() -> int:
    """Return how many cores the cluster has now."""
    return int(sum(node.get("CPU", 0) for node in _nodes()))


def _gpus(stage: Stage, gpus_per_stage: float | None) -> float:
    """Return how much of a GPU each process of a stage takes."""
    if not _computes_on_a_gpu(stage):
        return 0
    has_some = any(node.get("GPU") for node in _nodes())
    if stage.workers > 1:  # NCCL takes no two processes of a training on one GPU
        return 1 if has_some else 0
    return gpus_per_stage if gpus_per_stage is not None else 1 if has_some else 0


def _computes_on_a_gpu(stage: Stage) -> bool:
    """Tell whether images go through a network; a data set of shards, which do that, is only joined."""
    labelled_by_a_network = stage.kind == "dataset" and not stage.parts and "source_model" in stage.inputs
    return stage.kind in _ON_ACCELERATOR or labelled_by_a_network


def _nodes() -> list[dict[str, Any]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
