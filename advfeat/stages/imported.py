"""The data set of the recipe ``imported``: one that is finished, brought into the store as it is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advfeat.imported import pieces
from advfeat.tables import image_column, rows_per_group, with_image_shape, write_tables


def write_imported(location: str, image_shape: tuple[int, ...], folder: Path) -> dict[str, Any]:
    """Write ``train.parquet`` of images (C, H, W), with the columns of every data set.

    What nobody knows of its originals is null. No more than a row group of images is in memory, unless the
    files' own format wants them there. Raises ``InputError``.
    """
    count = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal count
        for images, labels in pieces(location, rows_per_group(image_shape)):
            yield _table(count, images, labels)
            count += len(labels)

    write_tables(tables(), folder / "train.parquet")
    unknown = ("wrong_label_share", "attack_success", "mean_perturbation_norm", "max_perturbation_norm")
    return {"train_size": count, **dict.fromkeys(unknown)}


def _table(start: int, images: NDArray[np.float32], labels: NDArray[np.int64]) -> pa.Table:
    nothing = pa.nulls(len(labels), pa.int64())
    columns = {
        "index": pa.array(np.arange(start, start + len(labels))),
        "image": image_column(images),
        "label": pa.array(labels),
        "original_label": nothing,
        "source_prediction_before": nothing,
        "source_prediction_after": nothing,
        "perturbation_norm": pa.nulls(len(labels), pa.float32()),
    }
    return with_image_shape(pa.table(columns), images.shape[1:])
