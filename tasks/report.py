"""Tasks for the stages ``report`` and ``grid_report``."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_task


@stage_task("report")
def report(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Write the table and the HTML report."""
    from advfeat.stages.report import write_report

    return write_report(stage, Store(store)).model_dump()


@stage_task("grid report")
def grid_report(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Write the table and the HTML report of a grid."""
    from advfeat.stages.grid_report import write_grid_report

    return write_grid_report(stage, Store(store)).model_dump()
