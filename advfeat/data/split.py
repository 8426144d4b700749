"""Splits that depend on nothing but the data's order: the same for every seed and machine."""

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import ImageData, LabelledImages
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_SPLIT_SEED = 0


def held_out(everything: LabelledImages, classes: tuple[str, ...], test_fraction: float) -> ImageData:
    """Hold out a share of every class for testing, for sources that come without a test split."""
    train, test = _held_out_rows(everything.labels, test_fraction)
    return ImageData(everything.rows(train), everything.rows(test), classes)


def held_out_sizes(labels: NDArray[np.int64], test_fraction: float) -> tuple[int, int]:
    """Count the training and the test images that ``held_out`` will return."""
    train, test = _held_out_rows(labels, test_fraction)
    return len(train), len(test)


def cut(data: ImageData, spec: DataSpec) -> ImageData:
    """Draw from both splits as many images as the spec asks for."""
    train_size, test_size = cut_sizes((len(data.train), len(data.test)), spec)
    return ImageData(_drawn(data.train, train_size), _drawn(data.test, test_size), data.classes)


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
    for label in np.unique(labels):
        members = order[labels[order] == label]
        test_rows.append(members[: round(test_fraction * len(members))])
    test = np.sort(np.concatenate(test_rows))
    train = np.setdiff1d(np.arange(len(labels)), test)
    if not len(train) or not len(test):
        raise InputError(
            "data.test_fraction",
            test_fraction,
            f"leaves {len(train)} training and {len(test)} test images of {len(labels)}",
            "give more images or another fraction",
        )
    return train, test


def _drawn(split: LabelledImages, size: int) -> LabelledImages:
    if size == len(split):
        return split
    rows = np.random.default_rng(_SPLIT_SEED).permutation(len(split))[:size]
    return split.rows(np.sort(rows))
