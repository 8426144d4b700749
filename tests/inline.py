"""Computes a plan in this process, stage after stage, without Prefect and Ray."""

from advfeat.planning import Plan
from advfeat.stages.inline import compute
from advfeat.storage import ArtifactRef, Store

__all__ = ["compute", "compute_all"]


def compute_all(plan: Plan, store: Store) -> dict[str, ArtifactRef]:
    """Compute all stages; return their artifacts by title."""
    return {stage.title: compute(stage, store) for stage in plan.stages}
