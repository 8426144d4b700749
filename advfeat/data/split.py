"""Splits that depend on nothing but the data's order: the same for every seed and machine.

Images whose label is below 0 have none, and are in no split.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import Readable, Split, Splits
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_SPLIT_SEED = 0


def held_out(everything: Readable, classes: tuple[str, ...], test_fraction: float) -> Splits:
    """Hold out a share of every class for testing, for sources that come without a test split."""
    train, test = _held_out_rows(everything.labels, test_fraction)
    return Splits(Split(everything, train), Split(everything, test), classes)


def held_out_sizes(labels: NDArray[np.int64], test_fraction: float) -> tuple[int, int]:
    """Count the training and the test images that ``held_out`` will return."""
    train, test = _held_out_rows(labels, test_fraction)
    return len(train), len(test)


def given_or_held_out(parts: Sequence[Readable], classes: tuple[str, ...], test_fraction: float) -> Splits:
    """Return the training and the test split that a source came with; hold one out of a single part."""
    if len(parts) == 1:
        _check_every_class_is_trained(parts[0].labels, test_fraction)
        return held_out(parts[0], classes, test_fraction)
    train, test = (Split(part, _labelled_rows(part.labels)) for part in parts)
    return Splits(train, test, classes)


def given_or_held_out_sizes(labels: Sequence[NDArray[np.int64]], test_fraction: float) -> tuple[int, int]:
    """Count the training and the test images that ``given_or_held_out`` will return."""
    if len(labels) == 1:
        _check_every_class_is_trained(labels[0], test_fraction)
        return held_out_sizes(labels[0], test_fraction)
    train, test = map(_labelled_rows, labels)
    return len(train), len(test)


def cut(splits: Splits, spec: DataSpec) -> Splits:
    """Draw from both splits as many images as the spec asks for; the others are never read."""
    train_size, test_size = cut_sizes((len(splits.train), len(splits.test)), spec)
    return Splits(_drawn(splits.train, train_size), _drawn(splits.test, test_size), splits.classes)


def cut_sizes(sizes: tuple[int, int], spec: DataSpec) -> tuple[int, int]:
    """Say how many of the training and test images are used; raises ``InputError``."""
    wanted = (spec.train_size, spec.test_size)
    for field, size, there in zip(("train_size", "test_size"), wanted, sizes, strict=True):
        if size is not None and size > there:
            problem = f"is more than the {there} images of {spec.source}"
            raise InputError(f"data.{field}", size, problem, f"give at most {there}")
    return wanted[0] or sizes[0], wanted[1] or sizes[1]


def _held_out_rows(
    labels: NDArray[np.int64], test_fraction: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    test_rows: list[NDArray[np.int64]] = []
    for label in np.unique(labels[_labelled_rows(labels)]):
        members = order[labels[order] == label]
        test_rows.append(members[: round(test_fraction * len(members))])
    test = np.sort(np.concatenate(test_rows))
    train = np.setdiff1d(_labelled_rows(labels), test)
    if not len(train) or not len(test):
        raise InputError(
            "data.test_fraction",
            test_fraction,
            f"leaves {len(train)} training and {len(test)} test images of {len(labels)}",
            "give more images or another fraction",
        )
    return train, test


def _labelled_rows(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.flatnonzero(labels >= 0)


def _check_every_class_is_trained(labels: NDArray[np.int64], test_fraction: float) -> None:
    """Raise ``InputError`` if all images of a class are held out."""
    train, _ = _held_out_rows(labels, test_fraction)
    gone = np.setdiff1d(labels[_labelled_rows(labels)], labels[train])
    if len(gone):
        problem = f"leaves no training image of class number {gone[0]}, of which there are too few"
        raise InputError("data.test_fraction", test_fraction, problem, "give more images or another fraction")


def _drawn(split: Split, size: int) -> Split:
    return Split(split.of, split.rows[drawn_rows(len(split), size)])


def drawn_rows(count: int, size: int | None) -> NDArray[np.int64]:
    """Return which of ``count`` images are used, ascending, if ``size`` of them are asked for."""
    if size is None or size == count:
        return np.arange(count)
    return np.sort(np.random.default_rng(_SPLIT_SEED).permutation(count)[:size])
