"""Stages ``weights`` and ``pretrained_model``: what somebody else trained becomes a source model."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from advfeat import models
from advfeat.errors import InputError
from advfeat.models import predict
from advfeat.models.weights import fitted, read_weights
from advfeat.spec import SourceSpec
from advfeat.stages.images import read_split
from advfeat.stages.model import read_model
from advfeat.storage import ArtifactRef, Stage, Store

_FILE = "model.safetensors"


def bring_weights(stage: Stage, store: Store) -> ArtifactRef:
    """Write a file of weights into the store as the network that it is of."""

    def build(folder: Path) -> dict[str, Any]:
        weights = read_weights(stage.context["weights"])
        if weights.sha256 != stage.parameters["sha256"]:
            problem = f"has changed since the run was planned, to {weights.name}"
            raise InputError("weights", weights.uri, problem, "start the run again")
        network = stage.parameters["network"]
        given = {name: network[name] for name in ("model", "width", "mean", "std") if name in network}
        spec = SourceSpec.model_validate({**given, "weights": weights.name})
        model = fitted(weights, spec, network["image_shape"], network["classes"])
        architecture = {"name": spec.model, "width": spec.width, **_shape(network)}
        (folder / _FILE).write_bytes(models.to_bytes(model, architecture))
        return {"network": spec.model, "file": weights.name}

    return store.write_stage(stage, build)


def take_pretrained(stage: Stage, store: Store) -> ArtifactRef:
    """Take a network that is in the store for a source model, and measure it on the test images."""

    def build(folder: Path) -> dict[str, Any]:
        weights = stage.inputs["weights"]
        (folder / _FILE).write_bytes(store.read(weights, _FILE))
        test = read_split(store, stage.inputs["images"], "test")
        right = predict(read_model(store, weights), torch.from_numpy(test.images)) == test.labels
        manifest = store.manifest(weights)
        return {
            "test_accuracy": float(np.mean(right)),
            "network": manifest.network,
            "weights": manifest.metrics.get("file", weights),
        }

    return store.write_stage(stage, build)


def _shape(network: dict[str, Any]) -> dict[str, Any]:
    return {"image_shape": network["image_shape"], "classes": network["classes"]}
