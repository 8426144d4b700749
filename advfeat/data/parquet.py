"""Parquet in the Hugging Face image layout, from a path or any fsspec URI.

An image column (``img`` or ``image``: a struct with the encoded picture in ``bytes``) and a label
column (``label`` or ``labels``). The location is a file or a folder; in a folder, file names that
start with ``train`` and ``test`` are the splits.
"""

import itertools
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

from advfeat.data.decode import decode_images
from advfeat.data.images import ImageData, LabelledImages
from advfeat.data.split import held_out, held_out_sizes
from advfeat.digest import stream_sha256
from advfeat.errors import InputError
from advfeat.spec import DataSpec

_ROWS_AT_ONCE = 1024
_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "labels")


class ParquetSource:
    """Parquet files with encoded pictures and integer labels."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.location = location
        self.spec = spec

    def identity(self) -> dict[str, Any]:
        """Hash every file's bytes, after a look at their footers and labels."""
        splits = self._splits()
        identity: dict[str, Any] = {"image_size": self.spec.image_size}
        for split, files in splits.items():
            self._labels(files, self._class_names(files))
            identity[split] = [self._sha256(file) for file in files]
        if len(splits) == 1:
            identity["test_fraction"] = self.spec.test_fraction
        return {"parquet": identity}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test rows."""
        labels = [self._labels(files, ()) for files in self._splits().values()]
        if len(labels) == 1:
            return held_out_sizes(labels[0], self.spec.test_fraction)
        return len(labels[0]), len(labels[1])

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width, from the first picture."""
        pictures = self._pictures(next(iter(self._splits().values())))
        return decode_images(itertools.islice(pictures, 1), self.spec.image_size).shape[1:]

    def class_count(self) -> int:
        """Count the classes that the file names, or else up to the largest label."""
        splits = self._splits()
        names = self._class_names(next(iter(splits.values())))
        return len(names) or 1 + max(int(self._labels(files, ()).max()) for files in splits.values())

    def load(self) -> ImageData:
        """Read and decode all pictures."""
        splits = self._splits()
        names = self._class_names(next(iter(splits.values())))
        loaded = {split: self._load_split(files, names) for split, files in splits.items()}
        classes = names or tuple(
            str(label) for label in range(1 + max(int(part.labels.max()) for part in loaded.values()))
        )
        if len(loaded) == 1:
            return held_out(loaded["all"], classes, self.spec.test_fraction)
        return ImageData(loaded["train"], loaded["test"], classes)

    def _splits(self) -> dict[str, list[str]]:
        with self._explained():
            fs, root = fsspec.core.url_to_fs(self.location)
            if not fs.exists(root):
                raise self._error("does not exist")
            if fs.isfile(root):
                return {"all": [root]}
            files = sorted(str(path) for path in fs.glob(f"{root}/**/*.parquet"))
        splits = {
            split: [path for path in files if path.rsplit("/", 1)[-1].startswith(split)]
            for split in ("train", "test")
        }
        if all(splits.values()):
            return splits
        if not files or any(splits.values()):
            raise self._error("holds no train*.parquet and test*.parquet")
        return {"all": files}

    def _load_split(self, files: list[str], classes: tuple[str, ...]) -> LabelledImages:
        images = decode_images(self._pictures(files), self.spec.image_size)
        return LabelledImages(images, self._labels(files, classes))

    def _pictures(self, files: list[str]) -> Iterator[tuple[str, bytes]]:
        for file in files:
            with self._opened(file) as parquet:
                name = self._column(parquet, _IMAGE_COLUMNS)
                row = 0
                for batch in parquet.iter_batches(batch_size=_ROWS_AT_ONCE, columns=[name]):
                    column = batch.column(name)
                    if pa.types.is_struct(column.type):
                        column = pc.struct_field(column, "bytes")
                    for content in column:
                        if not content.is_valid:
                            raise self._error(f"has no picture bytes in row {row} of {file}")
                        yield f"{file} row {row}", content.as_py()
                        row += 1

    def _labels(self, files: list[str], classes: tuple[str, ...]) -> NDArray[np.int64]:
        parts: list[NDArray[np.int64]] = []
        for file in files:
            with self._opened(file) as parquet:
                name = self._column(parquet, _LABEL_COLUMNS)
                column = parquet.read(columns=[name]).column(name)
            if not pa.types.is_integer(column.type) or column.null_count:
                raise self._error(f"has labels in {name} that are not all integers")
            parts.append(np.asarray(column.to_numpy(), dtype=np.int64))
        labels = np.concatenate(parts)
        if not len(labels):
            raise self._error("holds no rows")
        upper = len(classes) or int(labels.max()) + 1
        outside = labels[(labels < 0) | (labels >= upper)]
        if len(outside):
            raise self._error(f"has label {outside[0]} outside the classes 0 to {upper - 1}")
        return labels

    def _class_names(self, files: list[str]) -> tuple[str, ...]:
        with self._opened(files[0]) as parquet:
            label = self._column(parquet, _LABEL_COLUMNS)
            metadata = parquet.schema_arrow.metadata or {}
        try:
            features = json.loads(metadata[b"huggingface"])["info"]["features"]
            return tuple(str(name) for name in features[label]["names"])
        except (KeyError, TypeError, ValueError):
            return ()

    def _column(self, parquet: pq.ParquetFile, names: tuple[str, ...]) -> str:
        for name in names:
            if name in parquet.schema_arrow.names:
                return name
        raise self._error(f"has no column {' or '.join(names)}")

    def _sha256(self, file: str) -> str:
        with fsspec.core.url_to_fs(self.location)[0].open(file, "rb") as opened:
            return stream_sha256(opened)[0]

    @contextmanager
    def _opened(self, file: str) -> Iterator[pq.ParquetFile]:
        with self._explained(), fsspec.core.url_to_fs(self.location)[0].open(file, "rb") as opened:
            yield pq.ParquetFile(opened)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException, ValueError, ImportError) as error:
            problem = (str(error) or type(error).__name__).splitlines()[0]
            raise self._error(f"cannot be read ({problem})") from error

    def _error(self, problem: str) -> InputError:
        return InputError(
            "data.source",
            self.spec.source,
            problem,
            "give whole Parquet files with an image and a label column (Hugging Face image layout)",
        )
