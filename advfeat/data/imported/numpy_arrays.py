"""A finished data set as NumPy arrays: ``images`` and ``labels``, or ``x_train`` and ``y_train``."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.numpy_files import NumpyFiles, channels_first
from advfeat.data.refusal import Refusal, checked_labels


class NumpyArrays:
    """An ``.npz`` file or a folder of ``.npy`` files; images (N, H, W), (N, H, W, C) or (N, C, H, W)."""

    def __init__(self, location: str, refused: Refusal) -> None:
        self._files, self._refused = NumpyFiles(location, refused), refused
        for names in (("images", "labels"), ("x_train", "y_train")):
            if self._files.names.issuperset(names):
                self._names = names
                return
        raise refused("has no arrays images and labels, nor x_train and y_train")

    def sha256(self) -> list[str]:
        """Hash the files that hold both arrays."""
        return self._files.sha256(self._names)

    def reading(self) -> dict[str, int]:
        """Say nothing: these are pixels."""
        return {}

    def labels(self) -> NDArray[np.int64]:
        """Read all labels."""
        return checked_labels(self._files.array(self._names[1]), self._refused)

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images, which local ``.npy`` files leave on disk."""
        yield channels_first(self._files.array(self._names[0]), self._refused)
