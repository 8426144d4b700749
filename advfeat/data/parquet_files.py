"""Parquet files with an image and a label column, at a path or any fsspec URI, read a piece at a time."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advfeat.data.decode import PictureFile
from advfeat.data.refusal import Refusal, checked_labels
from advfeat.digest import stream_sha256
from advfeat.errors import explained
from advfeat.files.parquet_file import open_parquet, row_bytes
from advfeat.files.parquet_pages import check_pages
from advfeat.files.parts import rows_per_group
from advfeat.files.place import Place

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "labels")


class ParquetFiles:
    """Files of one schema, in order; every problem with them is raised as ``refused`` words it."""

    def __init__(self, place: Place, files: list[str], refused: Refusal) -> None:
        self._fs, self.files, self._refused = place.fs, files, refused
        self._rows_at_once: dict[tuple[str, str], int] = {}

    def sha256(self) -> list[str]:
        """Hash every file's bytes."""
        digests = []
        for path in self.files:
            with explained(self._refused), self._fs.open(path, "rb") as opened:
                digests.append(stream_sha256(opened)[0])
        return digests

    def labels(self, classes: int | None = None) -> NDArray[np.int64]:
        """Read all labels, integers from 0 to below ``classes``, or as far as they go."""
        parts: list[NDArray[Any]] = []
        for path in self.files:
            for column in self._pieces(path, self._label_column):
                if column.null_count:
                    raise self._refused(f"has rows without a label in {path}")
                parts.append(column.to_numpy())
        return checked_labels(np.concatenate(parts or [np.empty(0, np.int64)]), self._refused, classes)

    def class_names(self) -> tuple[str, ...]:
        """Return the classes that the first file names as Hugging Face datasets does; none if it does not."""
        schema = self.schema()
        label = self._label_column(schema)
        try:
            features = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
            return tuple(str(name) for name in features[label]["names"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return ()

    def schema(self) -> pa.Schema:
        """Return the schema of the first file."""
        with self._opened(self.files[0]) as (_, parquet):
            return parquet.schema_arrow

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        """Yield the images a piece at a time, or what records hold as ``bytes``, with their file's name."""
        for path in self.files:
            for column in self._pieces(path, self._image_column):
                yield path, column

    def first_picture(self) -> PictureFile:
        """Return the first encoded picture."""
        for picture in self.pictures():
            return picture
        raise self._refused("holds no images")

    def pictures(self, rows: NDArray[np.int64] | None = None) -> Iterator[PictureFile]:
        """Yield encoded pictures, those of the given rows, which are ascending, or all."""
        start = 0
        for path, column in self.images():
            if not pa.types.is_binary(column.type):
                raise self._refused(f"has {column.type} for images, no encoded pictures")
            wanted = np.arange(len(column))
            if rows is not None:
                first, last = np.searchsorted(rows, (start, start + len(column)))
                wanted = rows[first:last] - start
            for row in map(int, wanted):
                content = column[row]
                if not content.is_valid:
                    raise self._refused(f"has no picture bytes in row {start + row}, in {path}")
                yield f"{path} row {start + row}", content.as_py()
            start += len(column)

    def _label_column(self, schema: pa.Schema) -> str:
        name = self._column(schema, _LABEL_COLUMNS)
        if not pa.types.is_integer(kind := schema.field(name).type):
            raise self._refused(f"has {kind} for labels in {name}, no integers")
        return name

    def _image_column(self, schema: pa.Schema) -> str:
        name = self._column(schema, _IMAGE_COLUMNS)
        if not pa.types.is_struct(kind := schema.field(name).type):
            return name
        if kind.get_field_index("bytes") < 0:
            raise self._refused(f"has {kind} for images, no encoded pictures")
        return f"{name}.bytes"

    def _column(self, schema: pa.Schema, names: tuple[str, ...]) -> str:
        for name in names:
            if name in schema.names:
                return name
        raise self._refused(f"has no column {' or '.join(names)}")

    def _pieces(self, path: str, column_of: Callable[[pa.Schema], str]) -> Iterator[pa.Array]:
        """Yield a column, or a field of its records, in pieces of a row group's memory.

        They take no more if all their rows repeat the largest value that there can be.
        """
        with self._opened(path) as (file, parquet):
            column = column_of(parquet.schema_arrow)
            if (path, column) not in self._rows_at_once:
                largest_row = row_bytes(parquet, {column}) + check_pages(file, parquet, {column})
                self._rows_at_once[path, column] = rows_per_group(largest_row)
            name, _, field = column.partition(".")
            for batch in parquet.iter_batches(self._rows_at_once[path, column], columns=[column]):
                whole = batch.column(name)
                yield pc.struct_field(whole, field) if field else whole

    @contextmanager
    def _opened(self, path: str) -> Iterator[tuple[BinaryIO, pq.ParquetFile]]:
        with explained(self._refused), self._fs.open(path, "rb") as opened:
            yield opened, open_parquet(opened)
