"""Task for the stage ``evaluation``."""

from typing import Any

from advfeat.stage import Stage
from advfeat.stages.evaluation import evaluate
from advfeat.store import Store
from tasks.stage_task import stage_task


@stage_task("evaluation")
def evaluation(stage: Stage, store: str, after: list[dict[str, Any]]) -> dict[str, Any]:
    """Test a target model on the clean test images."""
    return evaluate(stage, Store(store)).model_dump()
