"""How places that somebody gave are refused: one line about the field that named them."""

from collections.abc import Callable, Collection
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.errors import InputError
from advfeat.spec import DataSpec

Refusal = Callable[[str], InputError]
"""Makes the error for a problem with the place."""

MOST_CLASSES = 100_000


def refusal(spec: DataSpec, remedy: str) -> Refusal:
    """Return what makes the errors about a spec's ``data.source``, which all end with the remedy."""
    return lambda problem: InputError("data.source", spec.source, problem, remedy)


def listed(names: Collection[object], most: int = 4) -> str:
    """Name the first of many things in a line, and say by an ellipsis that there are more."""
    return ", ".join([*map(str, list(names)[:most]), *(["…"] if len(names) > most else [])])


def refuse_image_size(spec: DataSpec) -> None:
    """Raise ``InputError`` if arrays are to be resized."""
    if spec.image_size is not None:
        raise InputError(
            "data.image_size", spec.image_size, "is for pictures, these are arrays", "leave it out"
        )


def checked_labels(
    values: NDArray[Any], refused: Refusal, classes: int | None = None, *, lowest: int = 0
) -> NDArray[np.int64]:
    """Return integers (N,) or (N, 1) from ``lowest`` to below ``classes``, if given, as int64 (N,)."""
    if values.dtype.kind not in "iu" or values.ndim == 0 or values.size != len(values):
        raise refused(
            f"has labels of type {values.dtype} and shape {values.shape}, not one integer per image"
        )
    if not len(values):
        raise refused("holds no images")
    smallest, highest, upper = int(values.min()), int(values.max()), (classes or MOST_CLASSES) - 1
    if smallest < lowest or highest > upper:
        outside = smallest if smallest < lowest else highest
        last = upper if classes or highest > upper else max(highest, 0)
        raise refused(f"has label {outside} outside the classes 0 to {last}")
    return values.reshape(-1).astype(np.int64)
