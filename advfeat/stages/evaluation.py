"""Stage ``evaluation``: a target model on the untouched, correctly labelled test images."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages
from advfeat.datasets.stored_rows import stored_tables
from advfeat.evaluation import (
    accuracy_by_class,
    agreement,
    autoattack_accuracy,
    expected_calibration_error,
    linear_cka,
    predict,
    probabilities,
    representation,
    robust_accuracy,
)
from advfeat.evaluation.own_measures import measured
from advfeat.files.tables import image_array, int_array, write_table
from advfeat.models import Normalized
from advfeat.progress import Progress
from advfeat.recipes.d_det import permuted
from advfeat.spec import EvaluationSpec
from advfeat.stages.images import read_classes, read_split
from advfeat.stages.model import read_copy, read_model
from advfeat.storage import ArtifactRef, Stage, Store


def evaluate(stage: Stage, store: Store, progress: Progress | None = None) -> ArtifactRef:
    """Write ``predictions.parquet`` (label, prediction, confidence) and measure what the model learned.

    Metrics: accuracy, by class too; calibration; agreement with the source model and likeness to it, where
    there is one; robust accuracy, if asked for, at one radius or several; where classes were permuted, the
    share of the test images that get the permuted class; of recipe ``transfer`` the transfer rate; and
    the figures of the user's own.
    """

    def build(folder: Path) -> dict[str, Any]:
        torch.set_num_threads(1)  # as rounding depends on it, not what the worker did before
        test = read_split(store, stage.inputs["images"], "test")
        classes = len(read_classes(store, stage.inputs["images"]))
        model = read_model(store, stage.inputs["model"])
        found = probabilities(model, torch.from_numpy(test.images))
        predictions = found.argmax(1).astype(np.int64)
        columns = {"label": test.labels, "prediction": predictions, "confidence": found.max(1)}
        write_table(pa.table(columns), folder / "predictions.parquet")
        metrics = {
            **accuracy_metrics(predictions, test.labels, classes),
            "calibration_error": expected_calibration_error(found, test.labels),
        }
        if "source_model" in stage.inputs:
            source = read_model(store, stage.inputs["source_model"])
            metrics |= _likeness(model, source, test, classes)
        if names := stage.parameters.get("measures"):
            metrics["measures"] = measured(names, partial(_networks, stage, store), test.images, test.labels)
        if "attack" in stage.parameters:
            metrics |= _robustness(model, test, stage, progress)
        if "permutation" in stage.parameters:
            moved = permuted(test.labels, stage.parameters["permutation"], classes)
            metrics["permuted_accuracy"] = float(np.mean(predictions == moved))
        if "reference_model" in stage.inputs:
            metrics["transfer_rate"] = _transfer_rate(stage, store)
        return metrics

    return store.write_stage(stage, build)


def _networks(stage: Stage, store: Store) -> tuple[Normalized, Normalized | None]:
    """Read target and source model anew, for code that may change them."""
    source = stage.inputs.get("source_model")
    return read_copy(store, stage.inputs["model"]), None if source is None else read_copy(store, source)


def accuracy_metrics(
    predictions: NDArray[np.int64], labels: NDArray[np.int64], classes: int
) -> dict[str, Any]:
    """Count what is right, over all classes and in each (fractions), and say what chance gives.

    Chance is the commonest class's share of the labels: the most that one can get right without a look at
    the images.
    """
    right = int(np.sum(predictions == labels))
    return {
        "test_accuracy": right / len(labels),
        "right": right,
        "test_size": len(labels),
        "chance": int(np.bincount(labels).max()) / len(labels),
        "class_accuracies": accuracy_by_class(predictions, labels, classes),
    }


def _likeness(model: Normalized, source: Normalized, test: LabelledImages, classes: int) -> dict[str, Any]:
    images = torch.from_numpy(test.images)
    of_source, of_target = predict(source, images), predict(model, images)
    return {
        "source_agreement": asdict(agreement(of_source, of_target, test.labels, classes)),
        "source_similarity": linear_cka(representation(source, images), representation(model, images)),
    }


def _robustness(
    model: Normalized, test: LabelledImages, stage: Stage, progress: Progress | None
) -> dict[str, Any]:
    seed = stage.parameters["seed"]
    asked = {name: value for name, value in stage.parameters.items() if name in EvaluationSpec.model_fields}
    spec = EvaluationSpec.model_validate(asked)
    assert spec.attack is not None
    images = torch.from_numpy(test.images)
    accuracy, *further = (
        robust_accuracy(model, images, test.labels, spec.attack.at(eps), seed, told)
        for eps, told in zip(spec.radii, _in_parts(progress, len(spec.radii)), strict=True)
    )
    found: dict[str, Any] = {"robust_accuracy": accuracy}
    if further:
        found["further_robust_accuracies"] = further
    if spec.autoattack:
        accuracy, *further = (
            autoattack_accuracy(model, images, test.labels, spec.attack.norm, eps, seed) for eps in spec.radii
        )
        found["autoattack_accuracy"] = accuracy
        if further:
            found["further_autoattack_accuracies"] = further
    return found


def _in_parts(progress: Progress | None, parts: int) -> list[Progress | None]:
    """Return what each of several equal parts of the work tells its progress to, as one that goes on."""

    def of(part: int) -> Progress | None:
        if progress is None:
            return None
        return lambda done, images: progress(part * images + done, parts * images)

    return [of(part) for part in range(parts)]


def _transfer_rate(stage: Stage, store: Store) -> float:
    """Return the share of the data set's examples that the reference model takes for their labels."""
    reference = read_model(store, stage.inputs["reference_model"])
    fooled = images = 0
    for table in stored_tables(store, stage.inputs["dataset"], columns=["image", "label"]):
        predictions = predict(reference, torch.from_numpy(image_array(table, np.float32)))
        fooled += int(np.sum(predictions == int_array(table, "label")))
        images += table.num_rows
    return fooled / images
