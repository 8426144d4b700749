"""Tasks for the stages ``source_model`` and ``target_model``."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_progress, stage_task


@stage_task("source model")
def source_model(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Train a source model."""
    from advfeat.stages.model import train_model

    return train_model(stage, Store(store), stage_progress(stage)).model_dump()


@stage_task("target model")
def target_model(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Train a target model on a data set."""
    from advfeat.stages.model import train_model

    return train_model(stage, Store(store), stage_progress(stage)).model_dump()
