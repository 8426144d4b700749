"""Parquet files with an image and a label column, at a path or any fsspec URI, read a piece at a time."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from advfeat.data.decode import PictureFile
from advfeat.data.refusal import Refusal, checked_labels
from advfeat.digest import stream_sha256
from advfeat.errors import explained
from advfeat.parquet_file import check_pages, open_parquet

_ROWS_AT_ONCE = 1024
_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "labels")


class ParquetFiles:
    """Files of one schema, in order; every problem with them is raised as ``refused`` words it."""

    def __init__(self, location: str, files: list[str], refused: Refusal) -> None:
        self._location, self.files, self._refused = location, files, refused
        self._checked: set[tuple[str, str]] = set()

    def sha256(self) -> list[str]:
        """Hash every file's bytes."""
        fs, _ = fsspec.core.url_to_fs(self._location)
        digests = []
        for path in self.files:
            with explained(self._refused), fs.open(path, "rb") as opened:
                digests.append(stream_sha256(opened)[0])
        return digests

    def labels(self, classes: int | None = None) -> NDArray[np.int64]:
        """Read all labels, integers from 0 to below ``classes``, or as far as they go."""
        parts: list[NDArray[Any]] = []
        for path in self.files:
            with self._opened(path, _LABEL_COLUMNS) as (parquet, name):
                column = parquet.read(columns=[name]).column(name)
            if column.null_count or not pa.types.is_integer(column.type):
                raise self._refused(f"has labels in {name} that are not all integers")
            parts.append(column.to_numpy())
        return checked_labels(np.concatenate(parts), self._refused, classes)

    def class_names(self) -> tuple[str, ...]:
        """Return the classes that the first file names as Hugging Face datasets does; none if it does not."""
        with self._opened(self.files[0], _LABEL_COLUMNS) as (parquet, label):
            metadata = parquet.schema_arrow.metadata or {}
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            return tuple(str(name) for name in features[label]["names"])
        except (KeyError, TypeError, ValueError, RecursionError):
            return ()

    def schema(self) -> pa.Schema:
        """Return the schema of the first file."""
        with self._opened(self.files[0], _IMAGE_COLUMNS) as (parquet, _):
            return parquet.schema_arrow

    def images(self) -> Iterator[tuple[str, pa.Array]]:
        """Yield the image column a piece at a time, each with the name of its file."""
        for path in self.files:
            with self._opened(path, _IMAGE_COLUMNS) as (parquet, name):
                for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name]):
                    yield path, batch.column(name)

    def first_picture(self) -> PictureFile:
        """Return the first encoded picture."""
        for picture in self.pictures():
            return picture
        raise self._refused("holds no images")

    def pictures(self, rows: NDArray[np.int64] | None = None) -> Iterator[PictureFile]:
        """Yield encoded pictures, those of the given rows, which are ascending, or all."""
        start = 0
        for path, column in self.images():
            if pa.types.is_struct(column.type):
                column = pc.struct_field(column, "bytes")
            if not pa.types.is_binary(column.type):
                raise self._refused(f"has {column.type} for images, no encoded pictures")
            wanted = np.arange(len(column))
            if rows is not None:
                first, last = np.searchsorted(rows, (start, start + len(column)))
                wanted = rows[first:last] - start
            for row, content in zip(wanted, column.take(pa.array(wanted)), strict=True):
                if not content.is_valid:
                    raise self._refused(f"has no picture bytes in row {start + row}, in {path}")
                yield f"{path} row {start + row}", content.as_py()
            start += len(column)

    def _column(self, parquet: pq.ParquetFile, names: tuple[str, ...]) -> str:
        for name in names:
            if name in parquet.schema_arrow.names:
                return name
        raise self._refused(f"has no column {' or '.join(names)}")

    @contextmanager
    def _opened(self, path: str, columns: tuple[str, ...]) -> Iterator[tuple[pq.ParquetFile, str]]:
        """Give a file whose sizes were compared with its bytes, and the one of the columns that it has."""
        fs, _ = fsspec.core.url_to_fs(self._location)
        with explained(self._refused), fs.open(path, "rb") as opened:
            parquet = open_parquet(opened)
            name = self._column(parquet, columns)
            if (path, name) not in self._checked:
                check_pages(opened, parquet, {name})
                self._checked.add((path, name))
            yield parquet, name


def files_by_split(location: str, refused: Refusal) -> dict[str, list[str]]:
    """List the file that a path or URI names, or the Parquet files in the folder that it names.

    All of them under ``all``; those of a folder whose names start with ``train`` and ``test`` also there.
    """
    with explained(refused):
        fs, root = fsspec.core.url_to_fs(location)
        if not fs.exists(root):
            raise refused("does not exist")
        if fs.isfile(root):
            return {"all": [root]}
        files = sorted(str(path) for path in fs.glob(f"{root}/**/*.parquet"))
    named = {
        split: [path for path in files if path.rsplit("/", 1)[-1].startswith(split)]
        for split in ("train", "test")
    }
    return {"all": files, **named}
