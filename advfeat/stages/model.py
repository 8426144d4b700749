"""Stages ``source_model`` and ``target_model``: train a fresh network, keep its weights."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from advfeat import models
from advfeat.artifact import ArtifactRef
from advfeat.digest import derived_seed
from advfeat.errors import StageFailedError
from advfeat.evaluation import predict
from advfeat.progress import Progress
from advfeat.spec import TrainSpec
from advfeat.stage import Stage
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.stages.images import read_classes, read_split
from advfeat.store import Store
from advfeat.tables import image_array, int_array, read_table
from advfeat.training import fit, shape_arguments


def train_source_model(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Train on the real images under their own labels."""
    checkpoint = StageCheckpoint(store, stage.digest)

    def build(folder: Path) -> dict[str, Any]:
        split = read_split(store, stage.inputs["images"], "train")
        images, labels = torch.from_numpy(split.images), torch.from_numpy(split.labels)
        model = _train(stage, store, images, labels, folder, checkpoint, progress)
        test = read_split(store, stage.inputs["images"], "test")
        return {
            "train_accuracy": float(np.mean(predict(model, images) == split.labels)),
            "test_accuracy": float(np.mean(predict(model, torch.from_numpy(test.images)) == test.labels)),
        }

    artifact = store.write_stage(stage, build)
    checkpoint.delete()
    return artifact


def train_target_model(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Train on a data set alone; nothing else of the source model or the real labels is seen."""
    checkpoint = StageCheckpoint(store, stage.digest)

    def build(folder: Path) -> dict[str, Any]:
        table = read_table(store.read(stage.inputs["dataset"], "train.parquet"))
        if table.num_rows < 2:
            raise StageFailedError(
                f"the data set holds {table.num_rows} images; a source model that is always right "
                "leaves no errors to learn from, so weaken it (weak_source.epochs)"
            )
        images = torch.from_numpy(image_array(table, np.float32))
        labels = torch.from_numpy(int_array(table, "label"))
        model = _train(stage, store, images, labels, folder, checkpoint, progress)
        return {"train_accuracy": float(np.mean(predict(model, images) == labels.numpy()))}

    artifact = store.write_stage(stage, build)
    checkpoint.delete()
    return artifact


def read_model(store: Store, digest: str) -> models.Normalized:
    """Read a trained network, in evaluation mode; the last ones read stay in the process."""
    return _model(store.uri, digest)


@lru_cache(maxsize=4)
def _model(store: str, digest: str) -> models.Normalized:
    return models.from_bytes(Store(store).read(digest, "model.safetensors"))


def _train(
    stage: Stage,
    store: Store,
    images: Tensor,
    labels: Tensor,
    folder: Path,
    checkpoint: StageCheckpoint,
    progress: Progress | None,
) -> models.Normalized:
    spec = TrainSpec.model_validate(stage.parameters["training"])
    classes = len(read_classes(store, stage.inputs["images"]))
    seed = derived_seed(stage.parameters["seed"], stage.kind)
    model = fit(images, labels, spec, classes=classes, seed=seed, checkpoint=checkpoint, progress=progress)
    architecture = {"name": spec.model, **shape_arguments(images, spec, classes)}
    (folder / "model.safetensors").write_bytes(models.to_bytes(model, architecture))
    return model
