"""A stored data set as PyTorch and pandas take it."""

from bisect import bisect_right
from collections import OrderedDict
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from advfeat.datasets.stored_rows import stored_parts, stored_tables
from advfeat.files.parts import WINDOW_PARTS
from advfeat.files.tables import float_array, image_array, int_array
from advfeat.models import as_pixels
from advfeat.storage import Store

_SHOWN = ("image", "label", "soft_label")


class StoredDataset(Dataset[tuple[Tensor, Tensor]]):
    """A data set, or a split of real images, of a store.

    A row is its image, float32 (C, H, W) in [0, 1] (but for images of another domain, which may leave it),
    and its label, int64 (): the recipe's, or float32 (classes,) probabilities where the recipe has such.
    Parts are read and checked when a row of theirs is first asked for; up to 1 GiB of them stay in memory.
    Reading raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """

    def __init__(self, store: Store, digest: str, split: str = "train") -> None:
        self.digest, self.split = digest, split
        self._store = store
        self._of_real_images = store.manifest(digest).stage == "images"
        self._parts = stored_parts(store, digest, split)
        self._starts = [part.rows.start for part in self._parts]
        self._kept: OrderedDict[int, tuple[Tensor, Tensor]] = OrderedDict()

    def __len__(self) -> int:
        """Count the rows."""
        return self._parts[-1].rows.stop

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        """Return the image and the label of a row."""
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        number = bisect_right(self._starts, row) - 1
        images, labels = self._part(number)
        return images[row - self._starts[number]], labels[row - self._starts[number]]

    def to_pandas(self) -> pd.DataFrame:
        """Return all rows and columns as a table; an image is a NumPy array, float32 or uint8 (C, H, W).

        Columns of a data set: ``index``, ``image``, ``label``, ``original_label``,
        ``source_prediction_before``, ``source_prediction_after``, ``perturbation_norm``, and ``soft_label``
        where the recipe has such.
        """
        tables = stored_tables(self._store, self.digest, self.split)
        return pd.concat([self._frame(table) for table in tables], ignore_index=True)

    def _part(self, number: int) -> tuple[Tensor, Tensor]:
        if number not in self._kept:
            self._kept[number] = self._read(number)
            if len(self._kept) > WINDOW_PARTS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        return self._kept[number]

    def _read(self, number: int) -> tuple[Tensor, Tensor]:
        tables = stored_tables(self._store, self.digest, self.split, _SHOWN, self._parts[number].rows)
        images, labels = zip(*((self._images(table), _labels(table)) for table in tables), strict=True)
        return as_pixels(torch.from_numpy(np.concatenate(images))), torch.from_numpy(np.concatenate(labels))

    def _images(self, table: pa.Table) -> NDArray[Any]:
        return image_array(table, np.uint8 if self._of_real_images else np.float32)

    def _frame(self, table: pa.Table) -> pd.DataFrame:
        frame: pd.DataFrame = table.drop_columns(["image"]).to_pandas()
        frame.insert(table.column_names.index("image"), "image", list(self._images(table)))
        return frame


def _labels(table: pa.Table) -> NDArray[Any]:
    if "soft_label" in table.column_names:
        return float_array(table, "soft_label")
    return int_array(table, "label")
