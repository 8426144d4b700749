"""A finished data set as NumPy arrays: ``images`` and ``labels``, or ``x_train`` and ``y_train``."""

from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from advfeat.data.array_names import Pair, pairs_by_split
from advfeat.data.labels import GivenLabels, array_labels
from advfeat.data.numpy_files import NumpyFiles, channels_first
from advfeat.data.refusal import Refusal, listed

_EXACT: tuple[Pair, ...] = (("images", "labels"), ("x_train", "y_train"))
"""What was always read, before all other names."""


class NumpyArrays:
    """An ``.npz`` file or a folder of ``.npy`` files; images (N, H, W), (N, H, W, C) or (N, C, H, W)."""

    def __init__(self, location: str, refused: Refusal) -> None:
        self._files, self._refused = NumpyFiles(location, refused), refused
        pairs = pairs_by_split(self._files.names, None, None)
        exact = [pair for pair in _EXACT if self._files.names.issuperset(pair)]
        found = exact or [pairs[split] for split in ("train", "all") if split in pairs]
        if not found:
            there = listed(sorted(self._files.names), 8) or "none"
            raise refused(f"has no arrays images and labels, nor x_train and y_train; it has {there}")
        self._names: Pair = found[0]

    def sha256(self) -> list[str]:
        """Hash the files that hold both arrays."""
        return self._files.sha256(self._names)

    def reading(self) -> dict[str, int]:
        """Say nothing: these are pixels."""
        return {}

    def labels(self) -> GivenLabels:
        """Read all labels."""
        return array_labels(self._files.array(self._names[1]), self._refused)

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images, which local ``.npy`` files leave on disk."""
        yield channels_first(self._files.array(self._names[0]), self._refused)
