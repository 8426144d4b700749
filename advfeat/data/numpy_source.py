"""NumPy arrays of images: an ``.npz`` file or a folder of ``.npy`` files, from a path or fsspec URI.

``x_train``, ``y_train``, ``x_test`` and ``y_test``, as Keras ships its data sets, ``train_images`` as
MedMNIST does, or ``images`` and ``labels``, in all usual spellings, or those that are named. Local
``.npy`` files are mapped into memory, and so never read whole.
"""

from collections.abc import Iterator
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.array_names import Pair, pairs_by_split
from advfeat.data.images import LabelledImages, Readable, Splits
from advfeat.data.labels import (
    UNLABELLED,
    GivenLabels,
    LabelledSplits,
    array_labels,
    labelled_splits,
)
from advfeat.data.numpy_files import NumpyFiles, channels_first
from advfeat.data.pixel_range import PixelRange, check_pixel_type, pixel_range
from advfeat.data.pixels import Pixels
from advfeat.data.refusal import listed, refusal, refuse_image_size
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_OF_BEFORE = ({("x_train", "y_train"), ("x_test", "y_test")}, {("images", "labels")})
"""Arrays whose names are no part of the identity, as no others were read once."""


class NumpySource:
    """Arrays of images and labels by their names."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give x_train, y_train, x_test and y_test, or images and labels, in an .npz or as .npy files, of "
            "uint8, or of floats in [0, 1]",
        )
        self._files = NumpyFiles(location, self._error)

    def identity(self) -> dict[str, Any]:
        """Hash the files' bytes, after a look at labels, and at form and range of the images."""
        white = self._range.white
        names = tuple(name for pair in self._pairs.values() for name in pair)
        identity: dict[str, Any] = {"numpy": self._files.sha256(names)}
        if len(self._chosen.names) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        if set(self._pairs.values()) not in _OF_BEFORE:
            identity["arrays"] = list(names)
        if self._chosen.renumbered:
            identity["classes"] = list(self._chosen.classes)
        if not self._is_bytes:
            identity["white"] = white
        return {**identity, **self.spec.columns}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images that have a label."""
        return given_or_held_out_sizes(self._chosen.labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width."""
        refuse_image_size(self.spec)
        forms = [channels_first(self._hollow(name), self._error) for name, _ in self._pairs.values()]
        labels = self._chosen.labels
        for (name, other), form, each in zip(self._pairs.values(), forms, labels, strict=True):
            if len(form) != len(each):
                raise self._error(f"has {len(form)} images in {name} and {len(each)} labels in {other}")
            if form.shape[1:] != forms[0].shape[1:]:
                raise self._error(
                    f"has images of {form.shape[1:]} in {name}, {forms[0].shape[1:]} in the first"
                )
        return forms[0].shape[1:]

    def class_count(self) -> int:
        """Count the classes that images are of."""
        return len(self._chosen.classes)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes: by the labels."""
        return self._chosen.classes

    def told(self) -> tuple[str, ...]:
        """Say which splits and labels were chosen, and whether the images are dark."""
        return self._chosen.told + self._range.told

    def left_out(self) -> dict[str, list[str]]:
        """List the arrays that are not read."""
        read = {name for pair in self._pairs.values() for name in pair}
        return {"other arrays": sorted(self._files.names - read)}

    def splits(self) -> Splits:
        """Open all arrays."""
        opened: list[Readable] = [
            self._readable(self._images(name), labels)
            for (name, _), labels in zip(self._pairs.values(), self._chosen.labels, strict=True)
        ]
        return given_or_held_out(opened, self._chosen.classes, self.spec.test_fraction)

    def _readable(self, images: NDArray[Any], labels: NDArray[np.int64]) -> Readable:
        white = self._range.white
        if images.dtype == np.uint8:
            return LabelledImages(images, labels)
        return Pixels(labels, lambda: iter([images]), white)

    @property
    def _pairs(self) -> dict[str, Pair]:
        """The arrays that are read, by split."""
        return {split: self._found[split] for split in self._chosen.names}

    @cached_property
    def _found(self) -> dict[str, Pair]:
        image, label = self.spec.image_column, self.spec.label_column
        if found := pairs_by_split(self._files.names, image, label):
            return found
        there = listed(sorted(self._files.names), 8) or "none"
        for field, name in self.spec.columns.items():
            raise InputError(f"data.{field}", name, "leads to no images with labels", f"there are {there}")
        raise self._error(
            "lacks arrays of the usual names (data.image_column and data.label_column name others); "
            f"it has {there}"
        )

    @cached_property
    def _chosen(self) -> LabelledSplits:
        given = {split: partial(self._labels, name) for split, (_, name) in self._found.items()}
        return labelled_splits(given, self._error)

    def _labels(self, name: str) -> GivenLabels:
        return array_labels(self._files.array(name), self._error, lowest=UNLABELLED)

    @property
    def _is_bytes(self) -> bool:
        return all(self._hollow(name).dtype == np.uint8 for name, _ in self._pairs.values())

    @cached_property
    def _range(self) -> PixelRange:
        self.image_shape()
        splits = {split: self._whole(name) for split, (name, _) in self._pairs.items()}
        return pixel_range(splits, self._error)

    def _whole(self, name: str) -> Iterator[NDArray[Any]]:
        yield self._images(name)

    def _hollow(self, name: str) -> NDArray[Any]:
        hollow = self._files.hollow(name)
        check_pixel_type(hollow.dtype, self._error)
        return hollow

    def _images(self, name: str) -> NDArray[Any]:
        return channels_first(self._files.array(name), self._error)
