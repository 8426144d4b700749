"""Stages ``weights`` and ``pretrained_model``: what somebody else trained becomes a source model."""

from pathlib import Path
from typing import Any

from advfeat import models
from advfeat.errors import InputError
from advfeat.models.weights import fitted, read_weights
from advfeat.spec import SourceSpec
from advfeat.stages.model import read_model, test_accuracy
from advfeat.storage import ArtifactRef, Stage, Store

_FILE = "model.safetensors"


def bring_weights(stage: Stage, store: Store) -> ArtifactRef:
    """Write a file of weights into the store as the network that it is of."""

    def build(folder: Path) -> dict[str, Any]:
        weights = read_weights(stage.context["weights"])
        if weights.sha256 != stage.parameters["sha256"]:
            problem = f"has changed since the run was planned, to {weights.name}"
            raise InputError("weights", weights.uri, problem, "start the run again")
        spec = SourceSpec.model_validate({**stage.parameters["network"], "weights": weights.name})
        shape = {name: stage.parameters[name] for name in ("image_shape", "classes")}
        model = fitted(weights, spec, **shape)
        architecture = {"name": spec.model, "width": spec.width, **shape}
        (folder / _FILE).write_bytes(models.to_bytes(model, architecture))
        return {"network": spec.model, "file": weights.name}

    return store.write_stage(stage, build)


def take_pretrained(stage: Stage, store: Store) -> ArtifactRef:
    """Take a network that is in the store for a source model, and measure it on the test images."""

    def build(folder: Path) -> dict[str, Any]:
        weights = stage.inputs["weights"]
        (folder / _FILE).write_bytes(store.read(weights, _FILE))
        manifest = store.manifest(weights)
        return {
            "test_accuracy": test_accuracy(read_model(store, weights), stage, store),
            "network": manifest.network,
            "weights": manifest.metrics.get("file", weights),
        }

    return store.write_stage(stage, build)
