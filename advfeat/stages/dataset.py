"""Stages ``shard`` and ``dataset``: a recipe's images and labels, generated in parallel parts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from advfeat.ahead import consumed_meanwhile
from advfeat.datasets.joining import join_shards
from advfeat.datasets.rows import DatasetRequest, DatasetSummary, MadeRows, dataset_tables, made_rows
from advfeat.files.tables import write_split
from advfeat.progress import Progress
from advfeat.recipes import RECIPES
from advfeat.spec import TargetedAttack
from advfeat.stages.images import StoredImages, read_classes
from advfeat.stages.imported import imported_tables
from advfeat.stages.model import read_model
from advfeat.storage import ArtifactRef, Stage, Store
from advfeat.storage.uploads import Uploads


def make_shard(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Generate the rows of one shard, in parts that are cut where those of the data set are.

    What is made is measured and written while the next images are made.
    """

    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, Any]:
        request = dataset_request(stage.parameters, stage.inputs, store)
        rows = range(*stage.parameters["rows"])
        before, summary = len(request.used(range(rows.start))), DatasetSummary(request.recipe)

        def write(made: Iterator[MadeRows]) -> None:
            tables = summary.counted(piece.table() for piece in made)
            write_split(tables, folder, "train", finished, rows_before=before)

        consumed_meanwhile(made_rows(request, rows, progress), write)
        return summary.metrics()

    return store.write_streamed(stage, build)


def make_dataset(stage: Stage, store: Store) -> ArtifactRef:
    """Join the shards that are the stage's parts to one data set; without any, compute it whole.

    A finished one is brought in from where it lies.
    """

    def build(folder: Path, uploads: Uploads) -> dict[str, Any]:
        summary = DatasetSummary(RECIPES[stage.parameters["recipe"]])
        if stage.parts:
            join_shards(store, stage.parts, summary, folder, uploads)
        else:
            write_split(summary.counted(_tables(stage, store)), folder, "train", uploads.add)
        shard_seconds = sum(store.manifest(shard).seconds for shard in stage.parts)
        return {**summary.metrics(), "shard_seconds": round(shard_seconds, 3)}

    return store.write_joined(stage, build)


def _tables(stage: Stage, store: Store) -> Iterator[pa.Table]:
    if RECIPES[stage.parameters["recipe"]].originals == "unknown":
        by_name = "labels" in stage.parameters
        classes = read_classes(store, stage.inputs["images"]) if by_name else None
        return imported_tables(stage.context["imported"], classes)
    return dataset_tables(dataset_request(stage.parameters, stage.inputs, store))


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
    settings = {name: parameters[name] for name in recipe.dataset_settings if name in parameters}
    attack, other = settings.pop("attack", None), inputs.get("other_images")
    return DatasetRequest(
        recipe=recipe,
        images=StoredImages(store, inputs["images"], "train"),
        classes=len(read_classes(store, inputs["images"])),
        seed=parameters["seed"],
        attack=None if attack is None else TargetedAttack.model_validate(attack),
        settings=recipe.settings.model_validate(settings),
        other_images=None if other is None else StoredImages(store, other, "train"),
    )
