"""The training that a stage describes: which images it learns from, and where its state is kept."""

from typing import Any

import numpy as np
import torch

from advfeat import models
from advfeat.datasets.stored_rows import images_and_labels, stored_parts
from advfeat.digest import derived_seed
from advfeat.errors import DeviceFullError, StageFailedError, first_line
from advfeat.hardware import device, in_words
from advfeat.progress import Progress
from advfeat.spec import TrainSpec
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.stages.images import image_shape, read_classes
from advfeat.storage import Stage, Store
from advfeat.training import Parts, TrainingSet, Window, fit


def training_spec(stage: Stage) -> TrainSpec:
    """Return how the stage trains its network."""
    return TrainSpec.model_validate(stage.parameters["training"])


def training_set(stage: Stage, store: Store) -> TrainingSet:
    """Return what the stage learns from: a data set if it has one, else the real images.

    Images are float32 in [0, 1] of a data set and uint8 of real images; labels int64, or float32
    probabilities of a data set that has such. They are read when they are asked for.
    Raises ``StageFailedError`` if there are too few of them.
    """
    pixel: type[Any] = np.float32 if "dataset" in stage.inputs else np.uint8
    shape = image_shape(store, stage.inputs["images"])
    parts = stored_parts(store, stage.inputs.get("dataset", stage.inputs["images"]))

    def load(numbers: Parts) -> Window:
        chosen = [parts[number] for number in numbers]
        return Window(*map(torch.from_numpy, images_and_labels(store, chosen, shape, pixel)))

    sizes = [len(part.rows) for part in parts]
    data = TrainingSet(sizes, shape, load, lambda: " ".join(part.file.sha256 for part in parts))
    if len(data) < 2 * training_spec(stage).workers:
        raise StageFailedError(
            f"the data set holds {len(data)} images, each training process needs two; a source model "
            "that is always right leaves no errors to learn from: weaken it (weak_source.epochs)"
        )
    return data


def train(
    stage: Stage, store: Store, data: TrainingSet, progress: Progress | None
) -> tuple[models.Normalized, list[float]]:
    """Train the stage's network, from the state in the store if there is one; return epochs' losses too.

    Raises ``DeviceFullError`` where a batch does not fit a GPU's memory: a smaller one is another training.
    """
    losses: list[float] = []
    spec, problem = training_spec(stage), ""
    try:
        model = fit(
            data,
            spec,
            classes=len(read_classes(store, stage.inputs["images"])),
            seed=derived_seed(stage.parameters["seed"], stage.kind),
            checkpoint=StageCheckpoint(store, stage.digest),
            progress=progress,
            losses=losses,
        )
    except torch.OutOfMemoryError as error:
        problem = first_line(error)
    if problem:
        raise DeviceFullError(
            f"batch_size: {spec.batch_size} images of shape {data.image_shape} do not fit the memory of "
            f"{in_words(device())} when {spec.model} is trained; halve it, or give every stage a GPU of its "
            f"own ({problem})"
        )
    return model, losses
