"""Computes a plan in this process, stage after stage, without Prefect and Ray."""

from advfeat.artifact import ArtifactRef
from advfeat.plan import Plan
from advfeat.stage import Stage
from advfeat.stages.dataset import make_dataset, make_shard
from advfeat.stages.evaluation import evaluate
from advfeat.stages.grid_report import write_grid_report
from advfeat.stages.images import write_images
from advfeat.stages.leakage import measure_leakage
from advfeat.stages.model import train_model
from advfeat.stages.plane import write_plane
from advfeat.stages.report import write_report
from advfeat.store import Store

_COMPUTATIONS = {
    "images": write_images,
    "source_model": train_model,
    "shard": make_shard,
    "dataset": make_dataset,
    "target_model": train_model,
    "evaluation": evaluate,
    "leakage": measure_leakage,
    "two_dimensional": write_plane,
    "report": write_report,
    "grid_report": write_grid_report,
}


def compute(stage: Stage, store: Store) -> ArtifactRef:
    """Compute one stage, unless the store has it."""
    return _COMPUTATIONS[stage.kind](stage, store)


def compute_all(plan: Plan, store: Store) -> dict[str, ArtifactRef]:
    """Compute all stages; return their artifacts by title."""
    return {stage.title: compute(stage, store) for stage in plan.stages}
