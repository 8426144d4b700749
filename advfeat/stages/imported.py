"""The data set of the recipe ``imported``: one that is finished, brought into the store as it is."""

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advfeat.data.imported import describe, pieces
from advfeat.files.parts import ROWS_PER_GROUP
from advfeat.files.tables import image_column, with_image_shape


def imported_tables(location: str, classes: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read a finished data set into the columns of every data set.

    Its labels are numbered as among ``classes`` where both name them, else as in the files.

    What nobody knows of its originals is null. No more than a row group of images is in memory, unless the
    files' own format wants them there. Raises ``InputError``.
    """
    numbers = None if classes is None else describe(location).numbers_among(classes)
    count = 0
    for images, labels in pieces(location, ROWS_PER_GROUP):
        yield _table(count, images, labels if numbers is None else numbers[labels])
        count += len(labels)


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
