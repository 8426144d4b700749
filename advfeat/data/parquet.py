"""Parquet with pictures or pixels, from a path or any fsspec URI.

An image column (``img``, ``image``, or the one that is named) of encoded pictures, as bytes or as Hugging
Face's records of ``bytes`` and ``path``, or of numbers in lists or tensors; a label column (``label``,
``labels``, or the one that is named) of numbers or names. The location is a file or a folder, in which names
of files and of folders tell the splits.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from typing import Any

from advfeat.data.decode import Decoding, Pictures, decoding
from advfeat.data.images import Readable, Splits
from advfeat.data.labels import LabelledSplits, labelled_splits
from advfeat.data.parquet_files import Columns, ParquetFiles
from advfeat.data.parquet_folder import TableFiles, table_files
from advfeat.data.pixel_range import PixelRange, pixel_range, told_of_dark
from advfeat.data.pixels import Pixels
from advfeat.data.refusal import listed, refusal, refuse_image_size
from advfeat.data.split import given_or_held_out, given_or_held_out_sizes
from advfeat.errors import explained
from advfeat.files.place import place_of
from advfeat.spec import DataSpec


class ParquetSource:
    """Parquet files with images and labels."""

    def __init__(self, location: str, spec: DataSpec) -> None:
        self.spec = spec
        self._error = refusal(
            spec,
            "give complete Parquet files with an image and a label column (Hugging Face image layout)",
        )
        with explained(self._error):
            self._place = place_of(location)

    def identity(self) -> dict[str, Any]:
        """Hash every file's bytes, after a look at their footers, labels and pixels."""
        identity: dict[str, Any] = {"image_size": self.spec.image_size}
        for name in self._chosen.names:
            identity[name] = self._files[name].sha256()
            identity["test_fraction"] = self.spec.test_fraction
        if self._chosen.renumbered:
            identity["classes"] = list(self._chosen.classes)
        if self._first.holds_pictures:
            identity |= self._decoding.identity
        else:
            identity["white"] = self._range.white
        return {"parquet": {**identity, **self.spec.columns}}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test rows that have a label."""
        return given_or_held_out_sizes(self._chosen.labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width: the first image's, with colours if a training picture has."""
        if self._first.holds_pictures:
            return self._decoding.shape
        refuse_image_size(self.spec)
        shapes = {name: self._files[name].pixel_shape for name in self._chosen.names}
        first, *others = shapes.values()
        for other in others:
            if other != first:
                raise self._error(f"has images of {other} for testing, {first} for training")
        return first

    def class_count(self) -> int:
        """Count the classes that images are of."""
        return len(self._chosen.classes)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes: as the files do, or by their numbers."""
        return self._chosen.classes

    def told(self) -> tuple[str, ...]:
        """Say which splits and labels were chosen, which files tell no split, and whether images are dark."""
        told = [*self._first.told, *self._chosen.told]
        told += [line for name in self._chosen.names for line in self._found.told.get(name, ())]
        if odd := self._found.of_no_split:
            told.append(f"has files that name no split, which are left out: {listed(odd, 8)}")
        of_dark = told_of_dark(self.splits().train) if self._first.holds_pictures else self._range.told
        return (*told, *of_dark)

    def left_out(self) -> Mapping[str, Sequence[str]]:
        """List what is not read, by what it is."""
        return self._found.left_out

    def splits(self) -> Splits:
        """Read all labels; images are read when they are asked for."""
        pairs = [
            (self._files[name], labels)
            for name, labels in zip(self._chosen.names, self._chosen.labels, strict=True)
        ]
        shape, size = self.image_shape(), self.spec.image_size
        parts: list[Readable] = (
            [Pictures(labels, files.pictures, shape, size) for files, labels in pairs]
            if self._first.holds_pictures
            else [Pixels(labels, files.pixels, self._range.white) for files, labels in pairs]
        )
        return given_or_held_out(parts, self._chosen.classes, self.spec.test_fraction)

    @property
    def _first(self) -> ParquetFiles:
        return self._files[self._chosen.names[0]]

    @cached_property
    def _decoding(self) -> Decoding:
        return decoding(self._first.some_pictures(), self.spec.image_size)

    @cached_property
    def _range(self) -> PixelRange:
        self.image_shape()
        every = {name: self._files[name] for name in self._chosen.names}
        exported = all(files.are_exported for files in every.values())
        pieces = {name: files.pixels() for name, files in every.items()}
        return pixel_range(pieces, self._error, exported=exported)

    @cached_property
    def _chosen(self) -> LabelledSplits:
        given = {
            name: partial(getattr, files, "labels")
            for name, files in self._files.items()
            if name in ("all", "train") or files.has_label_column
        }
        return labelled_splits(given, self._error)

    @cached_property
    def _found(self) -> TableFiles:
        return table_files(self._place, self._error)

    @cached_property
    def _files(self) -> dict[str, ParquetFiles]:
        """The files of each split; all of them under ``all`` if no name tells a split."""
        splits: Mapping[str, list[str]] = self._found.of_split or {"all": self._found.every}
        if not self._found.every or not splits.keys() & {"all", "train"}:
            raise self._error("holds no train*.parquet")
        columns = Columns(self.spec.image_column, self.spec.label_column)
        return {
            name: ParquetFiles(self._place, files, self._error, columns) for name, files in splits.items()
        }
