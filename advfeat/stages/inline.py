"""Computes a stage in this process, without Prefect; trainings by several processes start a Ray."""

import os
from collections.abc import Callable, Sequence

from advfeat.extensions import provide
from advfeat.planning import Experiment, build_plan
from advfeat.report.rows import Row, read_rows
from advfeat.stages.dataset import make_dataset, make_shard
from advfeat.stages.evaluation import evaluate
from advfeat.stages.grid_report import write_grid_report
from advfeat.stages.images import write_images
from advfeat.stages.leakage import measure_leakage
from advfeat.stages.model import train_model
from advfeat.stages.plane import write_plane
from advfeat.stages.pretrained import bring_weights, take_pretrained
from advfeat.stages.report import write_report
from advfeat.storage import ArtifactRef, Stage, StageKind, Store

_COMPUTATIONS: dict[StageKind, Callable[[Stage, Store], ArtifactRef]] = {
    "images": write_images,
    "source_model": train_model,
    "weights": bring_weights,
    "pretrained_model": take_pretrained,
    "shard": make_shard,
    "dataset": make_dataset,
    "target_model": train_model,
    "evaluation": evaluate,
    "leakage": measure_leakage,
    "two_dimensional": write_plane,
    "report": write_report,
    "grid_report": write_grid_report,
}


def computed_rows(experiment: Experiment, store: str | os.PathLike[str]) -> Sequence[Row]:
    """Compute an experiment, stage after stage; return its rows, one a recipe.

    For what is small: a test of a recipe of one's own takes seconds. ``store`` is a folder or fsspec URI.
    """
    place, plan = Store(os.fspath(store)), build_plan(experiment)
    for stage in plan.stages:
        compute(stage, place)
    return read_rows(place, plan.report.digest)


def compute(stage: Stage, store: Store) -> ArtifactRef:
    """Compute one stage whose inputs are in the store, unless the store has it."""
    provide(stage.code)
    return _COMPUTATIONS[stage.kind](stage, store)
