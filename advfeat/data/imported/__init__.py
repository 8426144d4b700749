"""Finished data sets, made here or elsewhere: images that are learned from as they are, under their labels.

``torch:FOLDER`` are the files of Ilyas et al. (2019), ``numpy:`` and ``parquet:`` arrays and tables, each
from a path or any fsspec URI. Real images (``advfeat.data``) are uint8 and come with a test split; these are
float32 in [0, 1] and come without one: what was learned from them is tested on real images.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from advfeat.data.labels import UNLABELLED, GivenLabels, places_in
from advfeat.data.refusal import Refusal, listed
from advfeat.errors import InputError
from advfeat.files.parts import float_images_per_group

_GREY_LEVEL = 1 / 255


class FinishedSet(Protocol):
    """Where a finished data set comes from; every method raises ``InputError`` if it cannot be used."""

    def sha256(self) -> list[str]:
        """Hash the bytes that are meant."""

    def reading(self) -> dict[str, int]:
        """Say by which version pictures are decoded; nothing of pixels."""

    def labels(self) -> GivenLabels:
        """Read all labels, from 0, none missing, with the names of their classes if the files tell them."""

    def images(self) -> Iterator[NDArray[Any]]:
        """Read the images (n, C, H, W) in pieces of any size, uint8 or floats."""


@dataclass(frozen=True)
class Description:
    """What is known of a finished data set before anything learns from it; ``image_shape`` is (C, H, W).

    ``used_labels`` are the numbers that label an image, ``class_names`` those of 0, 1, …, if files tell them.
    """

    identity: dict[str, Any]
    size: int
    image_shape: tuple[int, ...]
    used_labels: tuple[int, ...]
    class_names: tuple[str, ...]
    labels_are_names: bool

    def numbers_among(self, classes: Sequence[str]) -> NDArray[np.int64] | None:
        """Return the number among ``classes`` of 0, 1, … here; None if it is the same one.

        Names decide where all are known, and numbers where no name says otherwise.
        Raises ``ValueError`` that says what is wrong.
        """
        if not self.class_names:
            self._check_same_numbers(classes)
            return None
        places = places_in(self.class_names, classes)
        unknown = [number for number in self.used_labels if places[number] == UNLABELLED]
        if not unknown:
            same = all(places[number] == number for number in self.used_labels)
            return None if same else places
        others_are_the_same = all(places[number] in (number, UNLABELLED) for number in self.used_labels)
        if self.labels_are_names or not others_are_the_same:
            names = listed([self.class_names[number] for number in unknown])
            raise ValueError(f"has labels that are not classes of the data: {names} (of {listed(classes)})")
        self._check_same_numbers(classes)
        return None

    def absent_from(self, classes: Sequence[str]) -> tuple[str, ...]:
        """Return the classes of which no image is; raises ``ValueError`` like ``numbers_among``."""
        numbers = self.numbers_among(classes)
        used = {int(label if numbers is None else numbers[label]) for label in self.used_labels}
        return tuple(name for number, name in enumerate(classes) if number not in used)

    def _check_same_numbers(self, classes: Sequence[str]) -> None:
        if self.used_labels[-1] >= len(classes):
            raise ValueError(
                f"has label {self.used_labels[-1]}, the data have the classes 0 to {len(classes) - 1}"
            )


def describe(location: str) -> Description:
    """Read a finished data set from end to end and say what it holds.

    Raises ``InputError`` if it cannot be read, if images and labels do not match, if a pixel is not in
    [0, 1], or none is above a grey level.
    """
    kind, _, _ = location.partition(":")
    refused = _refusal(location)
    opened = _opened(location, refused)
    labels, shape, count, highest = opened.labels(), (), 0, 0.0
    for images in _pixels(opened, refused):
        shape, count = images.shape[1:], count + len(images)
        highest = max(highest, float(images.max(initial=0)))
    if count != len(labels.numbers):
        raise refused(f"has {count} images and {len(labels.numbers)} labels")
    if 0 < highest < 1.5 * _GREY_LEVEL:
        raise refused("has images that are nearly black, of 0 and 1 where 255 is white, or divided twice")
    identity = {kind: opened.sha256(), **opened.reading()}
    used = tuple(map(int, labels.used))
    return Description(identity, count, shape, used, labels.names, labels.of_text)


def pieces(location: str, size: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Yield images float32 (n, C, H, W) in [0, 1] and labels int64 (n,), ``size`` of them at a time.

    It is fewer if so many are more than a row group; labels are numbered as in the files.
    Raises ``InputError`` like ``describe``.
    """
    refused = _refusal(location)
    opened = _opened(location, refused)
    labels, start = opened.labels().numbers, 0
    for images in _of_one_size(_pixels(opened, refused), size):
        yield images, labels[start : start + len(images)]
        start += len(images)


def _opened(location: str, refused: Refusal) -> FinishedSet:
    kind, _, place = location.partition(":")
    if kind == "torch":
        from advfeat.data.imported.torch_files import TorchFiles

        return TorchFiles(place, refused)
    if kind == "numpy":
        from advfeat.data.imported.numpy_arrays import NumpyArrays

        return NumpyArrays(place, refused)
    from advfeat.data.imported.parquet_tables import ParquetTables

    return ParquetTables(place, refused)


def _refusal(location: str) -> Refusal:
    def refused(problem: str) -> InputError:
        return InputError(
            "imported",
            location,
            problem,
            "give images in [0, 1] or uint8, and integer labels (docs/recipes/imported.md)",
        )

    return refused


def _pixels(opened: FinishedSet, refused: Refusal) -> Iterator[NDArray[np.float32]]:
    """Yield the images as float32 in [0, 1], no more than a row group at a time."""
    shape: tuple[int, ...] = ()
    for images in opened.images():
        shape = shape or images.shape[1:]
        if images.ndim != 4 or images.shape[1:] != shape:
            raise refused(f"has images of shape {images.shape}, not all of one (N, C, H, W)")
        at_once = float_images_per_group(shape)
        for start in range(0, len(images), at_once):
            yield _as_floats(np.ascontiguousarray(images[start : start + at_once]), refused)


def _as_floats(images: NDArray[Any], refused: Refusal) -> NDArray[np.float32]:
    """Return the images as float32 in [0, 1]; rounding may have left it by less than half a grey level."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    if images.dtype.kind != "f":
        raise refused(f"has images of type {images.dtype}")
    lowest, highest = float(images.min(initial=0)), float(images.max(initial=0))
    if not (lowest >= -_GREY_LEVEL / 2 and highest <= 1 + _GREY_LEVEL / 2):  # NaN is refused too
        raise refused(f"has pixels from {lowest:.4g} to {highest:.4g}, outside [0, 1]")
    return images.astype(np.float32).clip(0, 1)


def _of_one_size(parts: Iterator[NDArray[np.float32]], most: int) -> Iterator[NDArray[np.float32]]:
    """Cut and join arrays to ``most`` rows each, or to row groups; the last one is perhaps smaller."""
    held: list[NDArray[np.float32]] = []
    count = 0
    for part in parts:
        size = min(most, float_images_per_group(part.shape[1:]))
        held, count = [*held, part], count + len(part)
        if count < size:
            continue
        joined = np.concatenate(held)
        whole = count - count % size
        yield from np.split(joined[:whole], range(size, whole, size))
        held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)
