"""Stage ``images``: the real images, read once from wherever they are into the store."""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from advfeat import data
from advfeat.artifact import ArtifactRef
from advfeat.data.images import LabelledImages
from advfeat.spec import DataSpec
from advfeat.stage import Stage
from advfeat.store import Store
from advfeat.tables import (
    image_array,
    image_column,
    int_array,
    read_table,
    rows_per_group,
    with_image_shape,
    write_tables,
)


def write_images(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``train.parquet`` and ``test.parquet``: columns ``image`` (uint8) and ``label``.

    No more than a row group of images is in memory, unless the source itself holds them there.
    """

    def build(folder: Path) -> dict[str, Any]:
        spec = DataSpec.model_validate(stage.context["data"])
        splits = data.splits(spec)
        shape = data.image_shape(spec)
        for name, split in (("train", splits.train), ("test", splits.test)):
            pieces = split.pieces(rows_per_group(shape))
            write_tables(map(_table, pieces), folder / f"{name}.parquet")
        return {
            "train_size": len(splits.train),
            "test_size": len(splits.test),
            "image_shape": list(shape),
            "classes": list(splits.classes),
        }

    return store.write_stage(stage, build)


def _table(images: LabelledImages) -> pa.Table:
    table = pa.table({"image": image_column(images.images), "label": pa.array(images.labels)})
    return with_image_shape(table, images.images.shape[1:])


def read_split(store: Store, digest: str, split: str) -> LabelledImages:
    """Read the ``train`` or the ``test`` split of an images artifact; the last ones stay in the process."""
    return _split(store.uri, digest, split)


@lru_cache(maxsize=3)
def _split(store: str, digest: str, split: str) -> LabelledImages:
    table = read_table(Store(store).read(digest, f"{split}.parquet"))
    return LabelledImages(image_array(table, np.uint8), int_array(table, "label"))


def read_classes(store: Store, digest: str) -> tuple[str, ...]:
    """Read the class names of an images artifact."""
    return tuple(store.manifest(digest).metrics["classes"])
