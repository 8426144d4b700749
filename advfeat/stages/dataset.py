"""Stages ``shard`` and ``dataset``: a recipe's images and labels, generated in parallel parts."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from advfeat.artifact import ArtifactRef
from advfeat.dataset import DatasetRequest, dataset_metrics, dataset_rows
from advfeat.progress import Progress
from advfeat.recipes import RECIPES
from advfeat.spec import RecipeSettings, TargetedAttack
from advfeat.stage import Stage
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.imported import write_imported
from advfeat.stages.model import read_model
from advfeat.store import Store
from advfeat.tables import read_table, write_table


def make_shard(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Generate the rows of one shard."""

    def build(folder: Path) -> dict[str, Any]:
        request = dataset_request(stage.parameters, stage.inputs, store)
        table = dataset_rows(request, range(*stage.parameters["rows"]), progress)
        write_table(table, folder / "train.parquet")
        return dataset_metrics(table, request.recipe)

    return store.write_stage(stage, build)


def make_dataset(stage: Stage, store: Store) -> ArtifactRef:
    """Join the shards that are the stage's parts to one data set; without any, compute it whole.

    A finished one is brought in from where it lies.
    """

    def build(folder: Path) -> dict[str, Any]:
        if RECIPES[stage.parameters["recipe"]].originals == "unknown":
            shape = store.manifest(stage.inputs["images"]).metrics["image_shape"]
            return write_imported(stage.context["imported"], tuple(shape), folder)
        if stage.parts:
            table = pa.concat_tables(read_table(store.read(shard, "train.parquet")) for shard in stage.parts)
        else:
            request = dataset_request(stage.parameters, stage.inputs, store)
            table = dataset_rows(request, range(len(request.base)))
        write_table(table, folder / "train.parquet")
        shard_seconds = sum(store.manifest(shard).seconds for shard in stage.parts)
        metrics = dataset_metrics(table, RECIPES[stage.parameters["recipe"]])
        return {**metrics, "shard_seconds": round(shard_seconds, 3)}

    return store.write_stage(stage, build)


def dataset_request(parameters: Mapping[str, Any], inputs: Mapping[str, str], store: Store) -> DatasetRequest:
    """Return what a data set or a shard of it is made of, from its parameters and inputs."""
    source = inputs.get("source_model")
    guards = sum(role.startswith("guard_") for role in inputs)
    return replace(
        originals_request(parameters, inputs, store),
        source_model=None if source is None else read_model(store, source),
        guards=tuple(read_model(store, inputs[f"guard_{number}"]) for number in range(1, guards + 1)),
    )


def originals_request(
    parameters: Mapping[str, Any], inputs: Mapping[str, str], store: Store
) -> DatasetRequest:
    """Return the same without the models, which suffices to look at the originals."""
    recipe = RECIPES[parameters["recipe"]]
    settings = {name: parameters[name] for name in recipe.settings if name in parameters}
    attack, other = settings.pop("attack", None), inputs.get("other_images")
    return DatasetRequest(
        recipe=recipe,
        images=read_split(store, inputs["images"], "train"),
        classes=len(read_classes(store, inputs["images"])),
        seed=parameters["seed"],
        attack=None if attack is None else TargetedAttack.model_validate(attack),
        settings=RecipeSettings.model_validate(settings),
        other_images=None if other is None else read_split(store, other, "train"),
    )
