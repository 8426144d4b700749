"""Tasks for the stages ``evaluation``, ``leakage`` and ``two_dimensional``."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_progress, stage_task


@stage_task("evaluation")
def evaluation(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Test a target model on the clean test images."""
    from advfeat.stages.evaluation import evaluate

    return evaluate(stage, Store(store), stage_progress(stage)).model_dump()


@stage_task("leakage")
def leakage(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Learn from a data set by robust linear features alone."""
    from advfeat.stages.leakage import measure_leakage

    return measure_leakage(stage, Store(store)).model_dump()


@stage_task("plane")
def two_dimensional(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Learn from adversarial points of the plane."""
    from advfeat.stages.plane import write_plane

    return write_plane(stage, Store(store)).model_dump()
