"""Columns of Arrow, of any type that holds pictures, pixels or labels -> bytes, arrays and numbers.

A column that is a type of an extension (Arrow's fixed-shape tensors, the arrays of Hugging Face) is read by
what it stores.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from advfeat.data.labels import UNLABELLED, GivenLabels
from advfeat.data.refusal import MOST_CLASSES, Refusal
from advfeat.files.parquet_file import is_list


def stored_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of what a column of an extension's type, or of a dictionary's values, stores."""
    if isinstance(kind, pa.BaseExtensionType):
        return stored_type(kind.storage_type)
    return stored_type(kind.value_type) if pa.types.is_dictionary(kind) else kind


def holds_bytes(kind: pa.DataType) -> bool:
    """Tell whether values are bytes, of any length or of one."""
    kind = stored_type(kind)
    of_bytes = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
    return any(is_one(kind) for is_one in (*of_bytes, pa.types.is_fixed_size_binary))


def holds_text(kind: pa.DataType) -> bool:
    """Tell whether values are text."""
    kind = stored_type(kind)
    of_text = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
    return any(is_one(kind) for is_one in of_text)


def holds_lists(kind: pa.DataType) -> bool:
    """Tell whether values are lists of any length or of one, or tensors."""
    return is_list(stored_type(kind))


def nested_arrays(column: pa.Array, refused: Refusal) -> NDArray[Any]:
    """Return lists in lists, or tensors, as an array (N, …) of one shape; raises what ``refused`` makes."""
    if isinstance(column.type, pa.FixedShapeTensorType):
        stored = nested_arrays(column.storage, refused).reshape(len(column), *column.type.shape)
        axes = list(column.type.permutation or range(len(column.type.shape)))
        if [axes[axis] for axis in axes] != sorted(axes):
            # Arrow's text, pyarrow's writer and its reader take such a one to mean different things.
            raise refused(f"have axes permuted by {axes}, which is read in two ways; store them unpermuted")
        return stored.transpose(0, *(1 + axis for axis in axes))
    shape: list[int] = [len(column)]
    values = column.storage if isinstance(column.type, pa.BaseExtensionType) else column
    while is_list(values.type):
        if values.null_count:
            raise refused("are missing, or have gaps, in some rows")
        lengths = pc.unique(pc.list_value_length(values)).to_pylist()
        if len(lengths) > 1:
            raise refused(f"have lists of {lengths[0]} and of {lengths[1]} values")
        shape.extend(lengths or [0])
        values = pc.list_flatten(values)
    if values.null_count:
        raise refused("have pixels that are null")
    numbers = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    if not any(is_one(values.type) for is_one in numbers):
        raise refused(f"have values of type {values.type}, no numbers")
    array: NDArray[Any] = values.to_numpy(zero_copy_only=False)
    return array.reshape(shape)


def byte_arrays(column: pa.Array, size: int, refused: Refusal) -> NDArray[np.uint8]:
    """Return strings of ``size`` bytes each as an array (N, ``size``); raises what ``refused`` makes."""
    strings = column.to_pylist()
    if any(each is None or len(each) != size for each in strings):
        raise refused(f"are not {size} values each")
    return np.frombuffer(b"".join(strings), np.uint8).reshape(len(strings), size)


def holds_numbers(kind: pa.DataType) -> bool:
    """Tell whether values are integers, or may be: floats, as pandas writes where some are missing."""
    kind = stored_type(kind)
    return any(is_one(kind) for is_one in (pa.types.is_integer, pa.types.is_floating, pa.types.is_null))


def label_numbers(column: pa.Array, refused: Refusal) -> NDArray[np.int64]:
    """Return whole numbers, ``UNLABELLED`` for null and NaN; raises what ``refused`` makes for others."""
    plain = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if pa.types.is_floating(plain.type):
        plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
    try:
        numbers = plain.cast(pa.int64())
    except pa.ArrowInvalid as error:
        raise refused("has labels that are not whole numbers, or of more than 64 bits") from error
    values: NDArray[np.int64] = pc.fill_null(numbers, UNLABELLED).to_numpy()
    return values


class TextLabels:
    """Collects labels that are names, a piece of a column at a time."""

    def __init__(self, refused: Refusal) -> None:
        self._refused = refused
        self._numbers: dict[str, int] = {}
        self._parts: list[NDArray[np.int64]] = []

    def add(self, column: pa.Array) -> None:
        """Take in text, or bytes that are text, null for no label; raises what ``refused`` makes."""
        if isinstance(column.type, pa.BaseExtensionType):
            column = column.storage
        encoded = column if pa.types.is_dictionary(column.type) else pc.dictionary_encode(column)
        places = np.array([self._number(name) for name in encoded.dictionary.to_pylist()], np.int64)
        indices = pc.fill_null(encoded.indices.cast(pa.int64()), UNLABELLED).to_numpy()
        self._parts.append(np.append(places, UNLABELLED)[indices])

    def labels(self) -> GivenLabels:
        """Return all labels, numbered in the order of their names."""
        names = sorted(self._numbers)
        order = np.empty(len(names) + 1, np.int64)
        order[[self._numbers[name] for name in names]] = np.arange(len(names))
        order[UNLABELLED] = UNLABELLED
        return GivenLabels(order[np.concatenate(self._parts)], tuple(names), of_text=True)

    def _number(self, name: str | bytes | None) -> int:
        if name is None:
            return UNLABELLED
        try:
            text = name.decode() if isinstance(name, bytes) else name
        except UnicodeDecodeError as error:
            raise self._refused("has bytes for labels that are not text") from error
        if not text:
            raise self._refused("has labels of empty text: name the class, or give null for no label")
        number = self._numbers.setdefault(text, len(self._numbers))
        if number >= MOST_CLASSES:
            raise self._refused(f"has more than {MOST_CLASSES:,} names for labels")
        return number
