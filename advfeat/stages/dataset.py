"""Stages ``shard`` and ``dataset``: a recipe's images and labels, generated in parallel parts."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from advfeat.artifact import ArtifactRef
from advfeat.dataset import DatasetRequest, dataset_metrics, dataset_rows
from advfeat.progress import Progress
from advfeat.recipes import RECIPES
from advfeat.spec import Attack
from advfeat.stage import Stage
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.model import read_model
from advfeat.store import Store
from advfeat.tables import read_table, write_table


def make_shard(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Generate the rows of one shard."""

    def build(folder: Path) -> dict[str, Any]:
        table = dataset_rows(_request(stage, store), range(*stage.parameters["rows"]), progress)
        write_table(table, folder / "train.parquet")
        return dataset_metrics(table)

    return store.write_stage(stage, build)


def make_dataset(stage: Stage, store: Store) -> ArtifactRef:
    """Join the shards that are the stage's parts to one data set; without any, compute it whole."""

    def build(folder: Path) -> dict[str, Any]:
        if stage.parts:
            table = pa.concat_tables(read_table(store.read(shard, "train.parquet")) for shard in stage.parts)
        else:
            request = _request(stage, store)
            table = dataset_rows(request, range(len(request.images)))
        write_table(table, folder / "train.parquet")
        shard_seconds = sum(store.manifest(shard).seconds for shard in stage.parts)
        return {**dataset_metrics(table), "shard_seconds": round(shard_seconds, 3)}

    return store.write_stage(stage, build)


def _request(stage: Stage, store: Store) -> DatasetRequest:
    attack, source = stage.parameters.get("attack"), stage.inputs.get("source_model")
    return DatasetRequest(
        recipe=RECIPES[stage.parameters["recipe"]],
        images=read_split(store, stage.inputs["images"], "train"),
        classes=len(read_classes(store, stage.inputs["images"])),
        seed=stage.parameters["seed"],
        source_model=None if source is None else read_model(store, source),
        attack=None if attack is None else Attack.model_validate(attack),
    )
