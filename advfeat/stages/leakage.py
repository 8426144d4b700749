"""Stage ``leakage``: what robust linear features alone learn from a data set."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from advfeat.artifact import ArtifactRef
from advfeat.leakage import leaked_predictions, robust_linear_features
from advfeat.stage import Stage
from advfeat.stages.evaluation import accuracy_metrics
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.rows import stored_tables
from advfeat.store import Store
from advfeat.tables import image_array, int_array, write_table


def measure_leakage(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``predictions.parquet`` (label, prediction) of a linear classifier on clean test images."""

    def build(folder: Path) -> dict[str, Any]:
        torch.set_num_threads(1)  # as rounding depends on it, not what the worker did before
        classes = len(read_classes(store, stage.inputs["images"]))
        real = read_split(store, stage.inputs["images"], "train")
        test = read_split(store, stage.inputs["images"], "test")
        table = pa.concat_tables(stored_tables(store, stage.inputs["dataset"], columns=["image", "label"]))
        pixels = [(split.images / 255).astype(np.float32) for split in (real, test)]
        features = robust_linear_features(pixels[0], real.labels, classes, stage.parameters["eps"])
        predictions = leaked_predictions(
            features, image_array(table, np.float32), int_array(table, "label"), pixels[1]
        )
        columns = {"label": test.labels, "prediction": predictions}
        write_table(pa.table(columns), folder / "predictions.parquet")
        return {**accuracy_metrics(predictions, test, classes), "features": len(features)}

    return store.write_stage(stage, build)
