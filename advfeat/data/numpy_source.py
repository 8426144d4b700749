"""NumPy arrays of uint8 images: an ``.npz`` file or a folder of ``.npy`` files, from a path or fsspec URI.

``x_train``, ``y_train``, ``x_test`` and ``y_test``, as Keras ships its data sets, or ``images`` and
``labels``. Local ``.npy`` files are mapped into memory, and so never read whole.
"""

from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages, Splits
from advfeat.data.numpy_files import NumpyFiles, channels_first
from advfeat.data.refusal import checked_labels, refusal
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_GIVEN_SPLITS = (("x_train", "y_train"), ("x_test", "y_test"))
_ONE_SPLIT = (("images", "labels"),)


class NumpySource:
    """Arrays of images and labels by their names."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give x_train, y_train, x_test and y_test, or images and labels, in an .npz or as .npy files",
        )
        self._files = NumpyFiles(location, self._error)

    def identity(self) -> dict[str, Any]:
        """Hash the files' bytes, after a look at labels and at the form of the images."""
        self.image_shape()
        names = tuple(name for pair in self._pairs for name in pair)
        identity: dict[str, Any] = {"numpy": self._files.sha256(names)}
        if len(self._labels) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        return identity

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images."""
        return given_or_held_out_sizes(self._labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width."""
        if self.spec.image_size is not None:
            raise InputError(
                "data.image_size", self.spec.image_size, "is for pictures, these are arrays", "leave it out"
            )
        forms = [self._images(self._files.hollow(name)) for name, _ in self._pairs]
        for (name, other), form, labels in zip(self._pairs, forms, self._labels, strict=True):
            if len(form) != len(labels):
                raise self._error(f"has {len(form)} images in {name} and {len(labels)} labels in {other}")
            if form.shape[1:] != forms[0].shape[1:]:
                raise self._error(
                    f"has images of {form.shape[1:]} in {name}, {forms[0].shape[1:]} in the first"
                )
        return forms[0].shape[1:]

    def class_count(self) -> int:
        """Count the classes, up to the largest label."""
        return 1 + max(int(labels.max()) for labels in self._labels)

    def splits(self) -> Splits:
        """Open all arrays."""
        images = (self._images(self._files.array(name)) for name, _ in self._pairs)
        opened = [LabelledImages(*pair) for pair in zip(images, self._labels, strict=True)]
        classes = tuple(map(str, range(self.class_count())))
        return given_or_held_out(opened, classes, self.spec.test_fraction)

    @cached_property
    def _pairs(self) -> tuple[tuple[str, str], ...]:
        for pairs in (_GIVEN_SPLITS, _ONE_SPLIT):
            if all(name in self._files.names for pair in pairs for name in pair):
                return pairs
        found = ", ".join(sorted(self._files.names)[:8]) or "none"
        raise self._error(f"lacks the arrays that are looked for; it has {found}")

    @cached_property
    def _labels(self) -> list[NDArray[np.int64]]:
        return [checked_labels(self._files.array(name), self._error) for _, name in self._pairs]

    def _images(self, images: NDArray[Any]) -> NDArray[np.uint8]:
        if images.dtype != np.uint8:
            raise self._error(
                f"has images of type {images.dtype}, not uint8 (np.round(255 * images) of [0, 1])"
            )
        return channels_first(images, self._error)
