"""Task for the stage ``evaluation``."""

from typing import Any

from advfeat.stage import Stage
from advfeat.store import Store
from tasks.stage_task import stage_task


@stage_task("evaluation")
def evaluation(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Test a target model on the clean test images."""
    from advfeat.stages.evaluation import evaluate

    return evaluate(stage, Store(store)).model_dump()
