"""Parquet files with an image and a label column, at a path or any fsspec URI, read a piece at a time."""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advfeat.data.arrow_columns import (
    TextLabels,
    byte_arrays,
    holds_bytes,
    holds_lists,
    holds_numbers,
    holds_text,
    label_numbers,
    nested_arrays,
    stored_type,
)
from advfeat.data.labels import UNLABELLED, GivenLabels
from advfeat.data.numpy_files import channels_first
from advfeat.data.refusal import Refusal, checked_labels, listed
from advfeat.digest import stream_sha256
from advfeat.errors import DamagedArtifactError, InputError, explained
from advfeat.files.parquet_file import is_list, open_parquet, row_bytes
from advfeat.files.parquet_pages import check_pages
from advfeat.files.parts import rows_per_group
from advfeat.files.place import Place
from advfeat.files.tables import METADATA_KEY, image_shape
from advfeat.pictures.form import PictureFile

_IMAGE_COLUMNS = ("img", "image", "images", "picture", "pixels", "png", "jpg")
_LABEL_COLUMNS = ("label", "labels", "class", "target", "cls")
_MOST_NAME_BYTES = 1 << 20


@dataclass(frozen=True)
class Columns:
    """The names of the columns with images and labels; the usual ones are looked for where None."""

    image: str | None = None
    label: str | None = None


class ParquetFiles:
    """Files of one schema, in order; every problem with them is raised as ``refused`` words it."""

    def __init__(
        self, place: Place, files: list[str], refused: Refusal, columns: Columns | None = None
    ) -> None:
        self._fs, self.files, self._refused = place.fs, files, refused
        self._can_be_named, self._named = columns is not None, columns or Columns()
        self._rows_at_once: dict[tuple[str, str], int] = {}

    def sha256(self) -> list[str]:
        """Hash every file's bytes."""
        digests = []
        for path in self.files:
            with explained(self._refused), self._fs.open(path, "rb") as opened:
                digests.append(stream_sha256(opened)[0])
        return digests

    @cached_property
    def labels(self) -> GivenLabels:
        """All labels, with the names of their classes where the files tell them; null or -1 is none."""
        schema = self.schema
        if holds_text(kind := schema.field(self._label_column(schema)).type) or holds_bytes(kind):
            return self._text_labels()
        names = self._class_names(schema)
        parts = []
        for path in self.files:
            for column in self._pieces(path, self._label_column):
                if not holds_numbers(column.type):
                    raise self._refused(f"has {column.type} for labels in {path}, numbers in others")
                parts.append(label_numbers(column, self._refused))
        numbers = np.concatenate(parts or [np.empty(0, np.int64)])
        checked = checked_labels(numbers, self._refused, len(names) or None, lowest=UNLABELLED)
        return GivenLabels(checked, names)

    @property
    def has_label_column(self) -> bool:
        """Whether there is a column of labels by the name that is looked for."""
        return _found_column(self.schema, self._named.label, _LABEL_COLUMNS, "ClassLabel") is not None

    @property
    def told(self) -> tuple[str, ...]:
        """Say which columns were chosen where several have usual names, each in a predicate."""
        told = []
        for what, named, usual in (
            ("image", self._named.image, _IMAGE_COLUMNS),
            ("label", self._named.label, _LABEL_COLUMNS),
        ):
            chosen, *others = [name for name in usual if name in self.schema.names] or [""]
            if named is None and others:
                hint = f"there are also {listed(others)} (data.{what}_column names one)"
                told.append(f"has its {what}s in {chosen}; {hint}")
        return tuple(told)

    @cached_property
    def schema(self) -> pa.Schema:
        """The schema of the first file."""
        with self._opened(self.files[0]) as (_, parquet):
            return parquet.schema_arrow

    @property
    def holds_pictures(self) -> bool:
        """Whether images are encoded pictures, and not pixels."""
        column = self._image_column(self.schema)
        return not (self.are_exported or holds_lists(_type_of(self.schema, column)))

    @property
    def are_exported(self) -> bool:
        """Whether the metadata is that of data sets and exports of this package."""
        return METADATA_KEY in (self.schema.metadata or {})

    def some_pictures(self) -> Iterator[PictureFile]:
        """Yield the encoded pictures, of which there is one; raises ``InputError``."""
        pictures = self.pictures()
        if (first := next(pictures, None)) is None:
            raise self._refused("holds no images")
        yield first
        yield from pictures

    def pictures(self, rows: NDArray[np.int64] | None = None) -> Iterator[PictureFile]:
        """Yield encoded pictures, those of the given rows, which are ascending, or all."""
        start = 0
        for path, column in self._images():
            if not holds_bytes(column.type):
                raise self._refused(f"has {column.type} for images, no encoded pictures")
            wanted = np.arange(len(column))
            if rows is not None:
                first, last = np.searchsorted(rows, (start, start + len(column)))
                wanted = rows[first:last] - start
            for row in map(int, wanted):
                content = column[row].as_py()
                if content is None:
                    raise self._refused(f"has no picture bytes in row {start + row}, in {path}")
                yield f"{path} row {start + row}", content
            start += len(column)

    def pixels(self) -> Iterator[NDArray[Any]]:
        """Yield images (n, C, H, W) of numbers, whose type and range may be any, a piece at a time."""
        shape = self._told_shape()
        for path, column in self._images():
            refused = self._about_images_in(path)
            if not len(column):
                continue
            if shape is None and not holds_lists(column.type):
                raise refused(f"are of {column.type}, lists in others")
            with explained(self._refused):
                if shape is not None:
                    images = _of_shape(column, shape, refused)
                else:
                    images = self._of_own_shape(nested_arrays(column, refused))
            yield images

    @cached_property
    def pixel_shape(self) -> tuple[int, ...]:
        """The shape (C, H, W) of the first image of numbers."""
        for images in self.pixels():
            return images.shape[1:]
        raise self._refused("holds no images")

    def _of_own_shape(self, images: NDArray[Any]) -> NDArray[Any]:
        if images.ndim == 2:
            problem = f"has lists of {images.shape[1]} numbers for images, no encoded pictures"
            raise self._refused(f"{problem} and no shape (nested lists, or tensors, have one)")
        return channels_first(images, self._refused)

    def _about_images_in(self, path: str) -> Refusal:
        return lambda problem: self._refused(f"has images in {path} that {problem}")

    def _told_shape(self) -> tuple[int, ...] | None:
        """Return the shape (C, H, W) that the metadata says, if it does; raises ``InputError``."""
        if not self.are_exported:
            return None
        try:
            channels, height, width = image_shape(self.schema)
        except (DamagedArtifactError, ValueError) as error:
            raise self._refused("says no image_shape [C, H, W] under advfeat in its metadata") from error
        return channels, height, width

    def _text_labels(self) -> GivenLabels:
        labels = TextLabels(self._refused)
        for path in self.files:
            for column in self._pieces(path, self._label_column, _MOST_NAME_BYTES):
                if not (holds_text(column.type) or holds_bytes(column.type)):
                    raise self._refused(f"has {column.type} for labels in {path}, names in others")
                labels.add(column)
        found = labels.labels()
        if not len(found.numbers):
            raise self._refused("holds no images")
        return found

    def _class_names(self, schema: pa.Schema) -> tuple[str, ...]:
        """Return the classes that the metadata names as Hugging Face datasets does; none if it does not."""
        names = _features(schema).get(self._label_column(schema), {}).get("names")
        return tuple(map(str, names)) if isinstance(names, list) else ()

    def _images(self) -> Iterator[tuple[str, pa.Array]]:
        """Yield the images a piece at a time, or what records hold as ``bytes``, with their file's name."""
        for path in self.files:
            for column in self._pieces(path, self._image_column):
                yield path, column

    def _label_column(self, schema: pa.Schema) -> str:
        name = self._column(schema, "label", self._named.label, _LABEL_COLUMNS, "ClassLabel")
        kind = stored_type(schema.field(name).type)
        if not (holds_numbers(kind) or holds_text(kind) or holds_bytes(kind)):
            raise self._refused(f"has {kind} for labels in {name}, no integers and no names")
        return name

    def _image_column(self, schema: pa.Schema) -> str:
        name = self._column(schema, "image", self._named.image, _IMAGE_COLUMNS, "Image")
        kind = stored_type(schema.field(name).type)
        if not pa.types.is_struct(kind):
            if not (holds_bytes(kind) or is_list(kind)):
                raise self._refused(f"has {kind} for images in {name}, no encoded pictures")
            return name
        if kind.get_field_index("bytes") < 0:
            raise self._refused(f"has {kind} for images, no encoded pictures")
        return f"{name}.bytes"

    def _column(
        self, schema: pa.Schema, what: str, named: str | None, usual: tuple[str, ...], feature: str
    ) -> str:
        found = _found_column(schema, named, usual, feature)
        if found is not None:
            return found
        there = listed(schema.names, 8)
        if named is not None:
            problem = f"is not a column of {self.files[0]}"
            raise InputError(f"data.{what}_column", named, problem, f"there are {there}")
        hint = f" (data.{what}_column names another)" if self._can_be_named else ""
        raise self._refused(f"has no column {' or '.join(usual[:2])}{hint}; it has {there}")

    def _pieces(
        self, path: str, column_of: Callable[[pa.Schema], str], most_bytes: int | None = None
    ) -> Iterator[pa.Array]:
        """Yield a column, or a field of its records, in pieces of a row group's memory.

        They take no more if all their rows repeat the largest value that there can be, which must be
        smaller than ``most_bytes``, if given.
        """
        with self._opened(path) as (file, parquet):
            schema = parquet.schema_arrow
            column = column_of(schema)
            if (path, column) not in self._rows_at_once:
                largest_row = row_bytes(parquet, {column}) + check_pages(file, parquet, {column})
                if most_bytes is not None and largest_row >= most_bytes:
                    problem = f"has values of up to {largest_row:,} bytes in {column}"
                    raise self._refused(f"{problem}, no integers and no names of classes")
                self._rows_at_once[path, column] = rows_per_group(largest_row)
            for batch in parquet.iter_batches(self._rows_at_once[path, column], columns=[column]):
                if column in schema.names:
                    yield batch.column(column)
                else:
                    yield pc.struct_field(batch.column(column.removesuffix(".bytes")), "bytes")

    @contextmanager
    def _opened(self, path: str) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
        with explained(self._refused), self._fs.open(path, "rb") as opened:
            yield opened, open_parquet(opened)


def _found_column(schema: pa.Schema, named: str | None, usual: tuple[str, ...], feature: str) -> str | None:
    """Return the column that is named, or has a usual name, or is the only one of Hugging Face's kind."""
    for name in usual if named is None else (named,):
        if schema.names.count(name) == 1:
            return name
    features = _features(schema) if named is None else {}
    of_kind = [name for name in schema.names if features.get(name, {}).get("_type") == feature]
    return of_kind[0] if len(of_kind) == 1 else None


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    """Return what Hugging Face's metadata says of each column; nothing where it says nothing sensible."""
    try:
        features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in features.items() if isinstance(feature, dict)}
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError):
        return {}


def _type_of(schema: pa.Schema, column: str) -> pa.DataType:
    if column in schema.names:
        return schema.field(column).type
    return stored_type(schema.field(column.removesuffix(".bytes")).type).field("bytes").type


def _of_shape(column: pa.Array, shape: tuple[int, ...], refused: Refusal) -> NDArray[Any]:
    size = math.prod(shape)
    values = (
        byte_arrays(column, size, refused) if holds_bytes(column.type) else nested_arrays(column, refused)
    )
    if math.prod(values.shape[1:]) != size:
        raise refused(f"are not {size} values each")
    return values.reshape(len(values), *shape)
