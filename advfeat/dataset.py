"""The rows of a data set: images under the labels that a recipe chose, perturbed if it says so.

An example depends on its image, label and row alone, so that the result does not depend on how rows
are split into shards, to the last bit.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from advfeat.attacks import perturb
from advfeat.balls import BALLS
from advfeat.data.images import LabelledImages
from advfeat.digest import derived_seed
from advfeat.engine import choose_engine
from advfeat.evaluation import predict
from advfeat.hardware import device
from advfeat.models import Normalized
from advfeat.progress import Progress
from advfeat.recipes import DROPPED, Given, Recipe
from advfeat.spec import Attack
from advfeat.tables import image_column, int_array, with_image_shape
from advfeat.training import as_pixels


@dataclass(frozen=True)
class DatasetRequest:
    """Everything that determines a data set."""

    recipe: Recipe
    images: LabelledImages
    classes: int
    seed: int
    source_model: Normalized | None
    attack: Attack | None


def dataset_rows(request: DatasetRequest, rows: range, progress: Progress | None = None) -> pa.Table:
    """Compute the given rows of a data set, as a table; ``rows`` starts at a batch's start.

    Columns: ``index`` (row in the training split), ``image`` (float32 in [0, 1]), ``label``,
    ``original_label``, ``source_prediction_before`` and ``source_prediction_after`` the
    perturbation (null without a source model), ``perturbation_norm`` (in the attack's norm).
    """
    torch.set_num_threads(1)
    images, model = request.images, request.source_model
    everything = torch.from_numpy(images.images)
    given = Given(
        labels=images.labels,
        classes=request.classes,
        rng=np.random.default_rng(derived_seed(request.seed, request.recipe.name, "labels")),
        predict=lambda: _predictions(model, everything),
    )
    labels = request.recipe.relabel(given)
    kept = np.array([row for row in rows if labels[row] != DROPPED], dtype=np.int64)
    originals = as_pixels(everything[torch.from_numpy(kept)])
    adversarial = originals
    if request.attack is not None and model is not None and len(kept):
        adversarial = _perturbed(model, originals, labels[kept], request, kept, progress)
    return _table(request, kept, labels[kept], originals, adversarial)


def dataset_metrics(table: pa.Table) -> dict[str, Any]:
    """Summarize a data set: size, share of wrong labels, attack success, norms (fractions)."""
    labels, originals = int_array(table, "label"), int_array(table, "original_label")
    norms = table.column("perturbation_norm").to_numpy()
    perturbed = bool(len(norms)) and bool(norms.max() > 0)
    success = None
    if perturbed:
        success = float(np.mean(int_array(table, "source_prediction_after") == labels))
    return {
        "train_size": len(labels),
        "wrong_label_share": float(np.mean(labels != originals)) if len(labels) else None,
        "attack_success": success,
        "mean_perturbation_norm": float(norms.mean()) if perturbed else None,
        "max_perturbation_norm": float(norms.max()) if perturbed else None,
    }


def _perturbed(
    model: Normalized,
    originals: torch.Tensor,
    labels: NDArray[np.int64],
    request: DatasetRequest,
    kept: NDArray[np.int64],
    progress: Progress | None,
) -> torch.Tensor:
    assert request.attack is not None
    attack = request.attack
    # The whole data set's work decides, not the shard's: all shards choose the same engine.
    image_steps = len(request.images) * attack.passes
    model = model.to(device())
    return perturb(
        model,
        originals,
        torch.from_numpy(labels),
        attack,
        seed=derived_seed(request.seed, request.recipe.name, "attack"),
        rows=kept.tolist(),
        engine=choose_engine(model, originals[:1], attack.precision, image_steps),
        progress=progress,
    )


def _table(
    request: DatasetRequest,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    originals: torch.Tensor,
    adversarial: torch.Tensor,
) -> pa.Table:
    norm = request.attack.norm if request.attack is not None else "l2"
    lengths = BALLS[norm].length(adversarial.double() - originals.double())
    before = after = pa.nulls(len(kept), pa.int64())
    if request.source_model is not None:
        before = pa.array(predict(request.source_model, originals))
        after = pa.array(predict(request.source_model, adversarial))
    table = pa.table(
        {
            "index": pa.array(kept),
            "image": image_column(adversarial.numpy()),
            "label": pa.array(labels),
            "original_label": pa.array(request.images.labels[kept]),
            "source_prediction_before": before,
            "source_prediction_after": after,
            "perturbation_norm": pa.array(lengths.float().numpy()),
        }
    )
    return with_image_shape(table, tuple(adversarial.shape[1:]))


def _predictions(model: Normalized | None, images: torch.Tensor) -> NDArray[np.int64]:
    assert model is not None, "a recipe that asks for predictions names its source"
    return predict(model, images)
