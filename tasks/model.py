"""Tasks for the stages of models: ``source_model``, ``weights``, ``pretrained_model``, ``target_model``."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_progress, stage_task


@stage_task("source model")
def source_model(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Train a source model."""
    from advfeat.stages.model import train_model

    return train_model(stage, Store(store), stage_progress(stage)).model_dump()


@stage_task("weights")
def weights(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Bring a file of weights into the store; it runs where the flow runs, which sees the user's files."""
    from advfeat.stages.pretrained import bring_weights

    return bring_weights(stage, Store(store)).model_dump()


@stage_task("source model by weights")
def pretrained_model(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Take what somebody else trained for a source model."""
    from advfeat.stages.pretrained import take_pretrained

    return take_pretrained(stage, Store(store)).model_dump()


@stage_task("target model")
def target_model(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Train a target model on a data set."""
    from advfeat.stages.model import train_model

    return train_model(stage, Store(store), stage_progress(stage)).model_dump()
