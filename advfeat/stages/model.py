"""Stages ``source_model`` and ``target_model``: train a fresh network, keep its weights."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from advfeat import models
from advfeat.models import predict
from advfeat.progress import Progress
from advfeat.stages.checkpoint import StageCheckpoint
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.training import train, training_set, training_spec
from advfeat.storage import ArtifactRef, Stage, Store
from advfeat.training import Window, shape_arguments


def train_model(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Train the network of a stage of either kind and keep its weights.

    A source model learns from the real images under their own labels, a target model from a data set
    alone: nothing else of the source model or the real labels is seen.
    """

    def build(folder: Path) -> dict[str, Any]:
        spec = training_spec(stage)
        data = training_set(stage, store)
        if spec.workers > 1:
            from advfeat.stages.workers import train_on_workers

            train_on_workers(stage, store, progress)
        model, losses = train(stage, store, data, progress)
        classes = len(read_classes(store, stage.inputs["images"]))
        architecture = {"name": spec.model, **shape_arguments(data.image_shape, spec, classes)}
        (folder / "model.safetensors").write_bytes(models.to_bytes(model, architecture))
        accuracy = sum(_right(model, window) for window in data.stream(data.in_order())) / len(data)
        metrics: dict[str, Any] = {"train_accuracy": accuracy, "epoch_losses": losses}
        if stage.kind == "source_model":
            metrics["test_accuracy"] = test_accuracy(model, stage, store)
        return metrics

    artifact = store.write_stage(stage, build)
    StageCheckpoint(store, stage.digest).delete()
    return artifact


def _right(model: models.Normalized, window: Window) -> int:
    return int(np.sum(predict(model, window.images) == window.hard_labels.cpu().numpy()))


def test_accuracy(model: models.Normalized, stage: Stage, store: Store) -> float:
    """Return the share of the test images among a stage's inputs that a network has right."""
    test = read_split(store, stage.inputs["images"], "test")
    return float(np.mean(predict(model, torch.from_numpy(test.images)) == test.labels))


def read_model(store: Store, digest: str) -> models.Normalized:
    """Read a trained network, in evaluation mode; the last ones read stay in the process."""
    return _model(store.uri, digest)


def read_copy(store: Store, digest: str) -> models.Normalized:
    """Read a trained network for one who may change it."""
    return models.from_bytes(store.read(digest, "model.safetensors"))


@lru_cache(maxsize=16)
def _model(store: str, digest: str) -> models.Normalized:
    return read_copy(Store(store), digest)
