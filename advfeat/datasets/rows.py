"""The rows of a data set: images under the labels that a recipe chose, perturbed if it says so.

An example depends on its image, label and row alone, so that the result does not depend on how rows
are split into shards, to the last bit.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from advfeat.attacks import BALLS
from advfeat.datasets.predictions import source_predictions
from advfeat.digest import derived_seed
from advfeat.files.parts import ROWS_PER_GROUP
from advfeat.files.tables import image_column, int_array, with_image_shape
from advfeat.methods.cross_domain import ChannelMap
from advfeat.models import Normalized, as_pixels, probabilities
from advfeat.planning.shards import BATCH_SIZE, rows_at_once, rows_made_at_once
from advfeat.progress import Progress
from advfeat.recipes import DROPPED, Given, Making, Recipe, cross_domain
from advfeat.spec import Spec, TargetedAttack
from advfeat.training import mean_and_std


class RealImages(Protocol):
    """Real images that may be read when they are looked at."""

    def __len__(self) -> int:
        """Count the rows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W)."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all rows."""

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the images of some rows, uint8 (n, C, H, W)."""


@dataclass(frozen=True)
class DatasetRequest:
    """Everything that determines a data set."""

    recipe: Recipe[Any]
    images: RealImages
    classes: int
    seed: int
    source_model: Normalized | None = None
    attack: TargetedAttack | None = None
    settings: Spec | None = None
    """Own settings of the recipe, of its class for them; their defaults if unset."""
    guards: Sequence[Normalized] = ()
    other_images: RealImages | None = None
    """Images of another domain, for the recipe that is made from them."""

    @cached_property
    def own(self) -> Any:
        """The own settings of the recipe."""
        return self.settings or self.recipe.settings()

    @property
    def base(self) -> RealImages:
        """The real images that the data set is made from, or that it counts like."""
        if self.recipe.originals == "other domain":
            assert self.other_images is not None
            return self.other_images
        return self.images

    def originals(self, rows: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Return the images that those of the data set are made from, float32 (n, C, H, W)."""
        if self.recipe.originals == "noise":
            return torch.stack([self._noise(row) for row in rows])
        pixels = torch.from_numpy(self.base.pixels(np.asarray(rows)))
        return as_pixels(pixels) if self._moved is None else self._moved(pixels)

    @cached_property
    def labelled(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The label of each row of ``base``, and the rows that are used, ascending; some perhaps repeat."""
        given = Given(
            labels=self.base.labels.copy(),  # which a recipe may change in place
            classes=self.classes,
            rng=np.random.default_rng(derived_seed(self.seed, self.recipe.labels_of or self._name, "labels")),
            settings=self.own,
            probabilities=lambda: _probabilities(self),
        )
        labels = self.recipe.relabel(given)
        if self.recipe.sample is None:
            return labels, np.flatnonzero(labels != DROPPED).astype(np.int64)
        return labels, self.recipe.sample(given, labels).astype(np.int64)

    def used(self, rows: range) -> NDArray[np.int64]:
        """Return those of some rows of ``base`` that are used, as often as they are."""
        _, used = self.labelled
        return used[slice(*np.searchsorted(used, (rows.start, rows.stop)))]

    @property
    def attack_seed(self) -> int:
        """The seed that a row's random start is derived from."""
        return derived_seed(self.seed, self._name, "attack")

    @property
    def _name(self) -> str:
        return self.recipe.dataset_of or self.recipe.name

    @cached_property
    def _moved(self) -> ChannelMap | None:
        """What gives the other domain's images the statistics of this one's, if they are to have those."""
        if not isinstance(self.own, cross_domain.Settings) or not self.own.cross_domain.normalized:
            return None
        of_base, of_images = (mean_and_std(_pixels(images)) for images in (self.base, self.images))
        return ChannelMap(*of_base, *of_images)

    def _noise(self, row: int) -> torch.Tensor:
        assert self.recipe.drawn is not None, "a recipe whose originals are noise says how it is drawn"
        rng = np.random.default_rng(derived_seed(self.seed, "noise", int(row)))
        return torch.from_numpy(self.recipe.drawn(self.own, self.images.shape, rng))


@dataclass(frozen=True)
class MadeRows:
    """Some rows of a data set as computing made them, of which ``table`` makes columns."""

    request: DatasetRequest
    kept: NDArray[np.int64]
    """Their rows in the split that they are made from."""
    labels: NDArray[np.int64]
    originals: torch.Tensor
    made: torch.Tensor
    before: NDArray[np.int64] | None = None
    """What the source model, if there is one, takes the originals for."""
    after: NDArray[np.int64] | None = None
    """What it takes those made for."""
    soft_labels: NDArray[np.float32] | None = None

    def table(self) -> pa.Table:
        """Measure the perturbations, and return all columns.

        Columns: ``index`` (row in the split that it is made from), ``image`` (float32 in [0, 1], but for
        another domain's normalized ones), ``label``,
        ``original_label`` (null for noise), ``source_prediction_before`` and ``source_prediction_after`` the
        perturbation (null without a source model), ``perturbation_norm`` (in the attack's norm), and
        ``soft_label`` (float32 probabilities) where the recipe has such.
        """
        request, nothing = self.request, pa.nulls(len(self.kept), pa.int64())
        own_labels = pa.array(request.base.labels[self.kept])
        columns = {
            "index": pa.array(self.kept),
            "image": image_column(self.made.numpy()),
            "label": pa.array(self.labels),
            "original_label": nothing if request.recipe.originals == "noise" else own_labels,
            "source_prediction_before": nothing if self.before is None else pa.array(self.before),
            "source_prediction_after": nothing if self.after is None else pa.array(self.after),
            "perturbation_norm": pa.array(_norms(request, self.originals, self.made)),
        }
        if self.soft_labels is not None:
            columns["soft_label"] = image_column(self.soft_labels)
        return with_image_shape(pa.table(columns), tuple(self.made.shape[1:]))


def made_rows(request: DatasetRequest, rows: range, progress: Progress | None = None) -> Iterator[MadeRows]:
    """Compute the given rows of a data set, a piece at a time; ``rows`` starts at a batch's start.

    ``progress`` is told of all of them.
    """
    used, size = request.used(rows), rows_made_at_once(4 * prod(request.base.shape))

    def told(start: int) -> Progress | None:
        return progress and (lambda done, _: progress(start + done, len(used)))

    for start in range(0, max(1, len(used)), size):
        yield _made(request, used[start : start + size], told(start))


def dataset_tables(request: DatasetRequest) -> Iterator[pa.Table]:
    """Compute a data set whole, a piece of its rows at a time; columns as of ``MadeRows.table``."""
    for rows in _pieces(request.base):
        used = request.used(rows)
        for start in range(0, max(1, len(used)), _piece_size(request.base)):  # they may repeat
            yield _made(request, used[start : start + _piece_size(request.base)]).table()


class DatasetSummary:
    """Sums up a data set while its tables go by."""

    def __init__(self, recipe: Recipe[Any]) -> None:
        self._recipe = recipe
        self._size = self._wrong = self._successes = 0
        self._norms = [np.empty(0, np.float32)]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it looks at, as far as a table has them."""
        return ("label", "original_label", "source_prediction_after", "perturbation_norm")

    def counted(self, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
        """Yield the tables, and take them into the summary, which keeps the norms alone."""
        for table in tables:
            self.count(table)
            yield table

    def count(self, table: pa.Table) -> None:
        """Take the next rows into the summary."""
        labels = int_array(table, "label")
        self._size += len(labels)
        if self._recipe.originals == "unknown":
            return
        self._norms.append(table.column("perturbation_norm").to_numpy())
        if self._recipe.originals == "images":
            self._wrong += int(np.sum(labels != int_array(table, "original_label")))
        if self._recipe.attacks:
            self._successes += int(np.sum(labels == int_array(table, "source_prediction_after")))

    def metrics(self) -> dict[str, Any]:
        """Return size, share of wrong labels, attack success, norms (fractions).

        Labels of noise and of another domain's images are neither right nor wrong. Of a recipe of the user's
        own they also hold what those must be told who don't have its file.
        """
        norms = np.concatenate(self._norms)
        largest = float(norms.max(initial=0))
        judged, changed = self._size and self._recipe.originals == "images", largest > 0
        recipe = self._recipe
        own = {"own_recipe": {"summary": recipe.summary, "source": recipe.source}} if recipe.own else {}
        return {
            **own,
            "train_size": self._size,
            "wrong_label_share": self._wrong / self._size if judged else None,
            "attack_success": self._successes / self._size if changed and self._recipe.attacks else None,
            "mean_perturbation_norm": _sum(norms) / self._size if changed else None,
            "max_perturbation_norm": largest if changed else None,
        }


def _sum(norms: NDArray[np.float32]) -> float:
    """Add up some rows at a time, always the same ones, so that the sum rounds alike whatever the shards."""
    starts = range(0, len(norms), ROWS_PER_GROUP)
    return sum(float(norms[start : start + ROWS_PER_GROUP].sum(dtype=np.float64)) for start in starts)


def _made(request: DatasetRequest, kept: NDArray[np.int64], progress: Progress | None = None) -> MadeRows:
    torch.set_num_threads(1)
    labels, _ = request.labelled
    originals = request.originals(kept) if len(kept) else torch.empty(0, *request.base.shape)
    made = originals
    if request.recipe.make is not None and len(kept):
        made = request.recipe.make(_making(request, kept, labels[kept], originals, progress))
    model = request.source_model
    if model is None:
        return MadeRows(request, kept, labels[kept], originals, made)
    precision = "auto" if request.attack is None else request.attack.precision
    before = source_predictions(model, originals, precision)
    after = before if made is originals else source_predictions(model, made, precision)
    soft_labels = probabilities(model, made) if request.recipe.soft_labels else None
    return MadeRows(request, kept, labels[kept], originals, made, before, after, soft_labels)


def _making(
    request: DatasetRequest,
    kept: NDArray[np.int64],
    labels: NDArray[np.int64],
    originals: torch.Tensor,
    progress: Progress | None,
) -> Making[Any]:
    assert request.source_model is not None, "a recipe that makes images names its source"
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
        settings=request.own,
        seed=request.attack_seed,
        progress=progress,
    )


def _norms(request: DatasetRequest, originals: torch.Tensor, made: torch.Tensor) -> NDArray[np.float32]:
    """Measure perturbations in float64, a batch at a time: all of them would take six times the images."""
    if made is originals:
        return np.zeros(len(made), np.float32)
    ball = BALLS[request.attack.norm if request.attack is not None else "l2"]
    batches = zip(made.split(BATCH_SIZE), originals.split(BATCH_SIZE), strict=True)
    return torch.cat([ball.length(ours.double() - own.double()) for ours, own in batches]).float().numpy()


def _probabilities(request: DatasetRequest) -> NDArray[np.float32]:
    assert request.source_model is not None, "a recipe that asks for predictions names its source"
    return np.concatenate(
        [probabilities(request.source_model, request.originals(rows)) for rows in _pieces(request.base)]
    )


def _piece_size(images: RealImages) -> int:
    return rows_at_once(4 * prod(images.shape))  # as float32


def _pieces(images: RealImages) -> Iterator[range]:
    size = _piece_size(images)
    for start in range(0, len(images), size):
        yield range(start, min(start + size, len(images)))


def _pixels(images: RealImages) -> Iterator[torch.Tensor]:
    for rows in _pieces(images):
        yield torch.from_numpy(images.pixels(np.asarray(rows)))
