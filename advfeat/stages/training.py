"""The training that a stage describes: which images it learns from, and where its state is kept."""

import numpy as np
import torch
from torch import Tensor

from advfeat import models
from advfeat.digest import derived_seed
from advfeat.errors import StageFailedError
from advfeat.progress import Progress
from advfeat.spec import TrainSpec
from advfeat.stage import Stage
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.stages.images import read_classes, read_split
from advfeat.store import Store
from advfeat.tables import float_array, image_array, int_array, read_table
from advfeat.training import fit


def training_spec(stage: Stage) -> TrainSpec:
    """Return how the stage trains its network."""
    return TrainSpec.model_validate(stage.parameters["training"])


def training_images(stage: Stage, store: Store) -> tuple[Tensor, Tensor]:
    """Read what the stage learns from: a data set if it has one, else the real images.

    Images are (N, C, H, W), float32 in [0, 1] of a data set and uint8 of real images; labels int64 (N,), or
    float32 probabilities (N, classes) of a data set that has such.
    Raises ``StageFailedError`` if there are too few of them.
    """
    if "dataset" not in stage.inputs:
        split = read_split(store, stage.inputs["images"], "train")
        images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
    else:
        table = read_table(store.read(stage.inputs["dataset"], "train.parquet"))
        images = torch.from_numpy(image_array(table, np.float32))
        labels = torch.from_numpy(
            float_array(table, "soft_label")
            if "soft_label" in table.column_names
            else int_array(table, "label")
        )
    if len(labels) < 2 * training_spec(stage).workers:
        raise StageFailedError(
            f"the data set holds {len(labels)} images, each training process needs two; a source model "
            "that is always right leaves no errors to learn from: weaken it (weak_source.epochs)"
        )
    return images, labels


def train(
    stage: Stage, store: Store, images: Tensor, labels: Tensor, progress: Progress | None
) -> tuple[models.Normalized, list[float]]:
    """Train the stage's network, from the state in the store if there is one; return epochs' losses too."""
    losses: list[float] = []
    model = fit(
        images,
        labels,
        training_spec(stage),
        classes=len(read_classes(store, stage.inputs["images"])),
        seed=derived_seed(stage.parameters["seed"], stage.kind),
        checkpoint=StageCheckpoint(store, stage.digest),
        progress=progress,
        losses=losses,
    )
    return model, losses
