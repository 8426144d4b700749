"""Task for the stage ``report``."""

from typing import Any

from advfeat.stage import Stage
from advfeat.store import Store
from tasks.stage_task import stage_task


@stage_task("report")
def report(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Write the table and the HTML report."""
    from advfeat.stages.report import write_report

    return write_report(stage, Store(store)).model_dump()
