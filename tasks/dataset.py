"""Tasks for the stages ``shard`` and ``dataset``."""

from typing import Any

from advfeat.storage import Stage, Store
from advfeat.tasks.stage_task import stage_progress, stage_task


@stage_task("shard")
def shard(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Generate one shard of adversarial examples."""
    from advfeat.stages.dataset import make_shard

    return make_shard(stage, Store(store), stage_progress(stage)).model_dump()


@stage_task("data set")
def dataset(stage: Stage, store: str, after: list[Any]) -> dict[str, Any]:
    """Materialize a data set, from its shards where it has any."""
    from advfeat.stages.dataset import make_dataset

    return make_dataset(stage, Store(store)).model_dump()
