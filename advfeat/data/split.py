"""Splits that depend on nothing but the data's order: the same for every seed and machine."""

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import ImageData, LabelledImages
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_SPLIT_SEED = 0


def held_out(everything: LabelledImages, classes: tuple[str, ...], test_fraction: float) -> ImageData:
    """Hold out a share of every class for testing, for sources that come without a test split."""
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(everything))
    test_rows: list[NDArray[np.int64]] = []
    for label in range(len(classes)):
        members = order[everything.labels[order] == label]
        test_rows.append(members[: round(test_fraction * len(members))])
    test = np.sort(np.concatenate(test_rows))
    train = np.setdiff1d(np.arange(len(everything)), test)
    if not len(train) or not len(test):
        raise InputError(
            "data.test_fraction",
            test_fraction,
            f"leaves {len(train)} training and {len(test)} test images of {len(everything)}",
            "give more images or another fraction",
        )
    return ImageData(everything.rows(train), everything.rows(test), classes)


def sized(data: ImageData, spec: DataSpec) -> ImageData:
    """Cut both splits to the sizes that the spec asks for."""
    return ImageData(
        _subset(data.train, spec.train_size, "train_size"),
        _subset(data.test, spec.test_size, "test_size"),
        data.classes,
    )


def _subset(split: LabelledImages, size: int | None, field: str) -> LabelledImages:
    if size is None or size == len(split):
        return split
    if size > len(split):
        raise InputError(f"data.{field}", size, f"is more than the {len(split)} images there", "lower it")
    rows = np.random.default_rng(_SPLIT_SEED).permutation(len(split))[:size]
    return split.rows(np.sort(rows))
