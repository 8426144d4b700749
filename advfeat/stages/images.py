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
from advfeat.tables import image_array, image_column, int_array, read_table, with_image_shape, write_table


def write_images(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``train.parquet`` and ``test.parquet``: columns ``image`` (uint8) and ``label``."""

    def build(folder: Path) -> dict[str, Any]:
        images = data.load(DataSpec.model_validate(stage.context["data"]))
        for name, split in (("train", images.train), ("test", images.test)):
            table = pa.table({"image": image_column(split.images), "label": pa.array(split.labels)})
            write_table(with_image_shape(table, split.images.shape[1:]), folder / f"{name}.parquet")
        return {
            "train_size": len(images.train),
            "test_size": len(images.test),
            "image_shape": list(images.train.images.shape[1:]),
            "classes": list(images.classes),
        }

    return store.write_stage(stage, build)


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
