"""Task for the stage ``images``; it runs where the flow runs, which sees the user's files."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_task


@stage_task("images")
def images(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Bring the real images into the store."""
    from advfeat.stages.images import write_images

    return write_images(stage, Store(store)).model_dump()
