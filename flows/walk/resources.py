"""What a stage asks of the Ray nodes that compute it."""

from typing import Any

import ray

from advfeat.storage import Stage, StageKind

_ON_ACCELERATOR: set[StageKind] = {"source_model", "pretrained_model", "shard", "target_model", "evaluation"}


def resources(stage: Stage) -> dict[str, float]:
    """Return the cores, GPUs and bytes of memory that a stage's task takes on one node.

    A training by several workers takes none: its workers ask for theirs, which a task that held some
    could keep from them for ever. Memory is an estimate: more than the largest node has is not asked for.
    """
    if stage.workers > 1:
        return {"num_cpus": 0}
    nodes = _nodes()
    largest = max((node.get("memory", 0) for node in nodes), default=0)
    asked: dict[str, float] = {"num_cpus": stage.threads, "memory": int(min(stage.memory_bytes, largest))}
    if stage.kind in _ON_ACCELERATOR and any(node.get("GPU") for node in nodes):
        asked["num_gpus"] = 1
    return asked


def shortage(stage: Stage) -> str | None:
    """Say which cores no node of the cluster has now, so that the stage waits for nodes to come."""
    found = [int(node.get("CPU", 0)) for node in _nodes()]
    fitting = sum(count // stage.threads for count in found)
    if fitting >= stage.workers:
        return None
    wanted = (
        f"{stage.threads} cores" if stage.workers == 1 else f"{stage.workers} times {stage.threads} cores"
    )
    return f"takes {wanted}, the nodes of the cluster have {found}; waiting for more"


def cores() -> int:
    """Return how many cores the cluster has now."""
    return int(sum(node.get("CPU", 0) for node in _nodes()))


def _nodes() -> list[dict[str, Any]]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]
