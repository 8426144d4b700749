"""Stage ``leakage``: what robust linear features alone learn from a data set."""

from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from advfeat.data.images import pieces_of
from advfeat.datasets.stored_rows import stored_tables
from advfeat.files.parts import rows_per_part
from advfeat.files.tables import image_array, int_array, write_table
from advfeat.methods.leakage import Pieces, feature_values, leaked_predictions, robust_linear_features
from advfeat.stages.evaluation import accuracy_metrics
from advfeat.stages.images import StoredImages, read_classes
from advfeat.storage import ArtifactRef, Stage, Store


def measure_leakage(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``predictions.parquet`` (label, prediction) of a linear classifier on clean test images.

    No more than a few parts of images are in memory: what there are more of is read anew in every pass.
    """

    def build(folder: Path) -> dict[str, Any]:
        torch.set_num_threads(1)  # as rounding depends on it, not what the worker did before
        classes = len(read_classes(store, stage.inputs["images"]))
        real, test = (StoredImages(store, stage.inputs["images"], split) for split in ("train", "test"))
        features = robust_linear_features(partial(_real_pieces, real), classes, stage.parameters["eps"])
        learned = feature_values(features, _pieces(store, stage.inputs["dataset"]))
        values, labels = feature_values(features, _real_pieces(test))
        predictions = leaked_predictions(*learned, values)
        columns = {"label": labels, "prediction": predictions}
        write_table(pa.table(columns), folder / "predictions.parquet")
        return {**accuracy_metrics(predictions, labels, classes), "features": len(features)}

    return store.write_stage(stage, build)


def _real_pieces(images: StoredImages) -> Pieces:
    for rows in pieces_of(np.arange(len(images)), rows_per_part(8 * prod(images.shape))):
        yield images.pixels(rows) / np.float32(255), images.labels[rows]


def _pieces(store: Store, dataset: str) -> Pieces:
    for table in stored_tables(store, dataset, columns=["image", "label"]):
        yield image_array(table, np.float32), int_array(table, "label")
