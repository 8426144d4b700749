"""The rows of a data set: images under the labels that a recipe chose, perturbed if it says so.

An example depends on its image, label and row alone, so that the result does not depend on how rows
are split into shards, to the last bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from advfeat.balls import BALLS
from advfeat.cross_domain import with_statistics_of
from advfeat.data.images import LabelledImages
from advfeat.digest import derived_seed
from advfeat.evaluation import predict, probabilities
from advfeat.models import Normalized
from advfeat.progress import Progress
from advfeat.recipes import DROPPED, Given, Making, Recipe
from advfeat.spec import RecipeSettings, TargetedAttack
from advfeat.tables import image_column, int_array, with_image_shape
from advfeat.training import as_pixels

_NOISE_DEVIATION = 0.25
"""Of Gaussian noise around 0.5, clipped to [0, 1]: 5 % of the pixels are."""


@dataclass(frozen=True)
class DatasetRequest:
    """Everything that determines a data set."""

    recipe: Recipe
    images: LabelledImages
    classes: int
    seed: int
    source_model: Normalized | None = None
    attack: TargetedAttack | None = None
    settings: RecipeSettings = field(default_factory=RecipeSettings)
    guards: Sequence[Normalized] = ()
    other_images: LabelledImages | None = None
    """Images of another domain, for the recipe that is made from them."""

    @property
    def base(self) -> LabelledImages:
        """The real images that the data set is made from, or that it counts like."""
        if self.recipe.originals == "other domain":
            assert self.other_images is not None
            return self.other_images
        return self.images

    def originals(self, rows: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Return the images that those of the data set are made from, float32 (n, C, H, W)."""
        if self.recipe.originals == "noise":
            return torch.stack([self._noise(row) for row in rows])
        if self._moved is not None:
            return self._moved[torch.as_tensor(rows)]
        return as_pixels(torch.from_numpy(self.base.images[np.asarray(rows)]))

    @cached_property
    def _moved(self) -> torch.Tensor | None:
        """The other domain's images under the statistics of this one's, if they are to have those."""
        if self.recipe.originals != "other domain" or not self.settings.cross_domain.normalized:
            return None
        return with_statistics_of(torch.from_numpy(self.base.images), torch.from_numpy(self.images.images))

    def _noise(self, row: int) -> torch.Tensor:
        rng = np.random.default_rng(derived_seed(self.seed, "noise", int(row)))
        shape = self.images.images.shape[1:]
        if self.settings.noise == "uniform":
            return torch.from_numpy(rng.random(shape, np.float32))
        pixels = rng.normal(0.5, _NOISE_DEVIATION, shape).astype(np.float32)
        return torch.from_numpy(pixels.clip(0, 1))


def dataset_rows(request: DatasetRequest, rows: range, progress: Progress | None = None) -> pa.Table:
    """Compute the given rows of a data set, as a table; ``rows`` starts at a batch's start.

    Columns: ``index`` (row in the split that it is made from), ``image`` (float32 in [0, 1], but for
    another domain's normalized ones), ``label``,
    ``original_label`` (null for noise), ``source_prediction_before`` and ``source_prediction_after`` the
    perturbation (null without a source model), ``perturbation_norm`` (in the attack's norm), and
    ``soft_label`` (float32 probabilities) where the recipe has such.
    """
    torch.set_num_threads(1)
    recipe = request.recipe
    given = Given(
        labels=request.base.labels,
        classes=request.classes,
        rng=np.random.default_rng(derived_seed(request.seed, recipe.dataset_of or recipe.name, "labels")),
        settings=request.settings,
        probabilities=lambda: _probabilities(request),
    )
    labels = recipe.relabel(given)
    used = np.flatnonzero(labels != DROPPED) if recipe.sample is None else recipe.sample(given, labels)
    kept = used[(used >= rows.start) & (used < rows.stop)].astype(np.int64)
    originals = request.originals(kept) if len(kept) else _no_images(request)
    made = originals
    if recipe.make is not None and len(kept):
        made = recipe.make(_making(request, kept, labels[kept], originals, progress))
    return _table(request, kept, labels[kept], originals, made)


def dataset_metrics(table: pa.Table, recipe: Recipe) -> dict[str, Any]:
    """Summarize a data set: size, share of wrong labels, attack success, norms (fractions).

    Labels of noise and of another domain's images are neither right nor wrong.
    """
    labels = int_array(table, "label")
    norms = table.column("perturbation_norm").to_numpy()
    changed = bool(len(norms)) and bool(norms.max() > 0)
    wrong = None
    if len(labels) and recipe.originals == "images":
        wrong = float(np.mean(labels != int_array(table, "original_label")))
    success = None
    if changed and recipe.attacks:
        success = float(np.mean(int_array(table, "source_prediction_after") == labels))
    return {
        "train_size": len(labels),
        "wrong_label_share": wrong,
        "attack_success": success,
        "mean_perturbation_norm": float(norms.mean()) if changed else None,
        "max_perturbation_norm": float(norms.max()) if changed else None,
    }


def _making(
    request: DatasetRequest,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    originals: torch.Tensor,
    progress: Progress | None,
) -> Making:
    assert request.source_model is not None, "a recipe that makes images names its source"
    recipe = request.recipe
    return Making(
        originals=originals,
        labels=torch.from_numpy(labels),
        own_labels=torch.from_numpy(request.base.labels[kept]),
        rows=kept.tolist(),
        count=len(request.base),
        originals_of=request.originals,
        source_model=request.source_model,
        guards=request.guards,
        attack=request.attack,
        settings=request.settings,
        seed=derived_seed(request.seed, recipe.dataset_of or recipe.name, "attack"),
        progress=progress,
    )


def _table(
    request: DatasetRequest,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    originals: torch.Tensor,
    made: torch.Tensor,
) -> pa.Table:
    norm = request.attack.norm if request.attack is not None else "l2"
    lengths = BALLS[norm].length(made.double() - originals.double())
    before = after = pa.nulls(len(kept), pa.int64())
    if request.source_model is not None:
        before = pa.array(predict(request.source_model, originals))
        after = pa.array(predict(request.source_model, made))
    own_labels = pa.array(request.base.labels[kept])
    if request.recipe.originals == "noise":
        own_labels = pa.nulls(len(kept), pa.int64())
    columns = {
        "index": pa.array(kept),
        "image": image_column(made.numpy()),
        "label": pa.array(labels),
        "original_label": own_labels,
        "source_prediction_before": before,
        "source_prediction_after": after,
        "perturbation_norm": pa.array(lengths.float().numpy()),
    }
    if request.recipe.soft_labels:
        assert request.source_model is not None, "soft labels are the source model's"
        columns["soft_label"] = image_column(probabilities(request.source_model, made))
    return with_image_shape(pa.table(columns), tuple(made.shape[1:]))


def _probabilities(request: DatasetRequest) -> NDArray[np.float32]:
    assert request.source_model is not None, "a recipe that asks for predictions names its source"
    # As bytes where they may be: a batch at a time becomes float32.
    plain = request.recipe.originals != "noise" and request._moved is None
    images = torch.from_numpy(request.base.images) if plain else request.originals(range(len(request.base)))
    return probabilities(request.source_model, images)


def _no_images(request: DatasetRequest) -> torch.Tensor:
    return torch.empty(0, *request.base.images.shape[1:])
