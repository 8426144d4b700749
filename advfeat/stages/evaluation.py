"""Stage ``evaluation``: a target model on the untouched, correctly labelled test images."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from advfeat.artifact import ArtifactRef
from advfeat.evaluation import predict
from advfeat.stage import Stage
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.model import read_model
from advfeat.store import Store
from advfeat.tables import write_table


def evaluate(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``predictions.parquet`` (label, prediction) and count what is right."""

    def build(folder: Path) -> dict[str, Any]:
        test = read_split(store, stage.inputs["images"], "test")
        model = read_model(store, stage.inputs["model"])
        predictions = predict(model, torch.from_numpy(test.images))
        table = pa.table({"label": pa.array(test.labels), "prediction": pa.array(predictions)})
        write_table(table, folder / "predictions.parquet")
        right = int(np.sum(predictions == test.labels))
        return {
            "test_accuracy": right / len(test),
            "right": right,
            "test_size": len(test),
            "chance": 1 / len(read_classes(store, stage.inputs["images"])),
        }

    return store.write_stage(stage, build)
