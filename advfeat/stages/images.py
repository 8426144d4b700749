"""Stage ``images``: the real images, read once from wherever they are into the store."""

from collections.abc import Callable
from functools import cached_property, lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advfeat import data
from advfeat.data.images import LabelledImages
from advfeat.datasets.stored_rows import Part, images_and_labels, stored_parts, stored_tables
from advfeat.files.parts import rows_per_group
from advfeat.files.tables import bytes_column, int_array, with_image_shape, write_split
from advfeat.spec import DataSpec
from advfeat.storage import ArtifactRef, Stage, Store, expect_stage

_PARTS_KEPT = 6
"""In each process, of the real images that it looks at row by row."""


def write_images(stage: Stage, store: Store) -> ArtifactRef:
    """Write the splits ``train`` and ``test``: columns ``image`` (bytes) and ``label``.

    No more than a few parts are in memory, unless the source itself holds all images there.
    """

    def build(folder: Path, finished: Callable[[Path], None]) -> dict[str, Any]:
        spec = DataSpec.model_validate(stage.context["data"])
        data.check_unchanged(spec, stage.parameters["identity"])
        splits = data.splits(spec)
        shape = data.image_shape(spec)
        at_once = rows_per_group(prod(shape))
        for name, split in (("train", splits.train), ("test", splits.test)):
            write_split(map(_table, split.pieces(at_once)), folder, name, finished)
        return {
            "train_size": len(splits.train),
            "test_size": len(splits.test),
            "image_shape": list(shape),
            "classes": list(splits.classes),
        }

    return store.write_streamed(stage, build)


def _table(images: LabelledImages) -> pa.Table:
    table = pa.table({"image": bytes_column(images.images), "label": pa.array(images.labels)})
    return with_image_shape(table, images.images.shape[1:])


class StoredImages:
    """A split of an images artifact, read when it is looked at; no more than a few parts stay in memory."""

    def __init__(self, store: Store, digest: str, split: str) -> None:
        self._store, self._digest, self._split = store, digest, split

    def __len__(self) -> int:
        return self._parts[-1].rows.stop

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (C, H, W)."""
        return image_shape(self._store, self._digest)

    @property
    def labels(self) -> NDArray[np.int64]:
        """The labels of all rows."""
        return _labels(self._store.uri, self._digest, self._split)

    def pixels(self, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read the images of some rows, uint8 (n, C, H, W)."""
        pixels = np.empty((len(rows), *self.shape), np.uint8)
        for part in self._parts:
            here = (part.rows.start <= rows) & (rows < part.rows.stop)
            if here.any():
                pixels[here] = _part(self._store.uri, part)[rows[here] - part.rows.start]
        return pixels

    @cached_property
    def _parts(self) -> list[Part]:
        return stored_parts(self._store, self._digest, self._split)


@lru_cache(maxsize=3)
def _labels(store: str, digest: str, split: str) -> NDArray[np.int64]:
    tables = stored_tables(Store(store), digest, split, ["label"])
    return np.concatenate([int_array(table, "label") for table in tables])


@lru_cache(maxsize=_PARTS_KEPT)
def _part(store: str, part: Part) -> NDArray[np.uint8]:
    stored = Store(store)
    return images_and_labels(stored, [part], image_shape(stored, part.digest), np.uint8)[0]


def read_split(store: Store, digest: str, split: str) -> LabelledImages:
    """Read the ``train`` or the ``test`` split of an images artifact; the last ones stay in the process."""
    return _read_split(store.uri, digest, split)


@lru_cache(maxsize=3)
def _read_split(store: str, digest: str, split: str) -> LabelledImages:
    stored = Store(store)
    parts = stored_parts(stored, digest, split)
    return LabelledImages(*images_and_labels(stored, parts, image_shape(stored, digest), np.uint8))


def image_shape(store: Store, digest: str) -> tuple[int, ...]:
    """Read the shape (C, H, W) of the images of an images artifact."""
    return tuple(expect_stage(store.manifest(digest), "images").metrics["image_shape"])


def read_classes(store: Store, digest: str) -> tuple[str, ...]:
    """Read the class names of an images artifact."""
    return tuple(expect_stage(store.manifest(digest), "images").metrics["classes"])
