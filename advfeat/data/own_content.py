"""One pass over all that a function of the user's own yields: what is in it, hashed as it goes by."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.labels import GivenLabels, LabelledSplits, labelled_splits
from advfeat.data.pixel_range import PixelRange, pixel_range
from advfeat.data.refusal import MOST_CLASSES, Refusal
from advfeat.data.yielded import Piece

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 20.0


@dataclass(frozen=True)
class OwnContent:
    """What a function yields: enough to plan with, and to know it again."""

    shape: tuple[int, ...]
    labels: LabelledSplits
    pixels: PixelRange
    are_bytes: bool
    sha256: Mapping[str, str]
    """Of each split that is read, by name: images and labels as they were yielded, however many at a time."""
    beginnings: Mapping[str, str]
    """The same of the first piece of each."""


@dataclass
class Pass:
    """Takes in the pieces of a split: their hash, their labels and their shape."""

    refused: Refusal
    shape: tuple[int, ...] = ()
    are_bytes: bool = True
    beginning: str = ""
    """The hash of the first piece."""
    _images: Any = field(default_factory=hashlib.sha256)
    _labels: Any = field(default_factory=hashlib.sha256)
    _parts: list[NDArray[np.int64]] = field(default_factory=list)
    _numbers: dict[str, int] = field(default_factory=dict)
    _kinds: set[str] = field(default_factory=set)

    def images(self, pieces: Iterator[Piece]) -> Iterator[NDArray[Any]]:
        """Yield the images of pieces, once they are taken in; raises what ``refused`` makes."""
        for piece in pieces:
            self._take(piece)
            yield piece.images

    @property
    def sha256(self) -> str:
        """The hash of what was taken in; the images' shape and kind, and the labels' kind, are in it."""
        described = repr((self.shape, self.are_bytes, sorted(self._kinds))).encode()
        return hashlib.sha256(described + self._images.digest() + self._labels.digest()).hexdigest()

    @property
    def given(self) -> GivenLabels:
        """All labels; names are numbered in their order."""
        labels = np.concatenate([np.empty(0, np.int64), *self._parts])
        if not self._numbers:
            return GivenLabels(labels)
        names = sorted(self._numbers)
        order = np.empty(len(names), np.int64)
        order[[self._numbers[name] for name in names]] = np.arange(len(names))
        return GivenLabels(order[labels], tuple(names), of_text=True)

    def _take(self, piece: Piece) -> None:
        images, labels = piece.images, piece.labels
        self.shape = images.shape[1:]
        self.are_bytes = images.dtype == np.uint8
        # What becomes uint8 is rounded from float32.
        self._images.update(np.ascontiguousarray(images, np.uint8 if self.are_bytes else "<f4").data)
        self._kinds.add("names" if labels.dtype.kind == "U" else "numbers")
        if len(self._kinds) > 1:
            raise self.refused("yields names for some labels, and numbers for others")
        if labels.dtype.kind == "U":
            names: list[str] = labels.tolist()
            text = "".join(f"{len(name)} {name}" for name in names)
            self._labels.update(text.encode("utf-8", "surrogatepass"))
            labels = np.array([self._numbers.setdefault(name, len(self._numbers)) for name in names])
            if len(self._numbers) > MOST_CLASSES:
                raise self.refused(f"yields more than {MOST_CLASSES:,} names for labels")
        else:
            self._labels.update(np.ascontiguousarray(labels, "<i8").data)
        self._parts.append(labels.astype(np.int64))
        self.beginning = self.beginning or self.sha256


def own_content(
    splits: Mapping[str, Callable[[], Iterator[Piece]]], refused: Refusal, name: str
) -> OwnContent:
    """Read all splits, ``train`` and ``test``, or ``all``, once; only their labels stay in memory.

    Raises what ``refused`` makes for images and labels that cannot be used.
    """
    passes = {split: Pass(refused) for split in splits}
    told = _TellingTime(name)
    white = pixel_range(
        {split: passes[split].images(told.counted(read())) for split, read in splits.items()}, refused
    )
    there = {split: each for split, each in passes.items() if each.shape}
    shapes = {each.shape for each in there.values()}
    if len(shapes) > 1:
        sizes = " and ".join(" x ".join(map(str, shape)) for shape in sorted(shapes))
        raise refused(f"yields images of {sizes} for {' and '.join(there)}")
    labels = labelled_splits(
        {split: partial(getattr, each, "given") for split, each in passes.items()}, refused
    )
    (shape,) = shapes
    read = {split: there[split] for split in labels.names}
    return OwnContent(
        shape,
        labels,
        white,
        all(each.are_bytes for each in read.values()),
        {split: each.sha256 for split, each in read.items()},
        {split: each.beginning for split, each in read.items()},
    )


class _TellingTime:
    """Says now and then how many images a long pass has read."""

    def __init__(self, name: str) -> None:
        self._name, self._count, self._last = name, 0, time.monotonic()

    def counted(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        for piece in pieces:
            self._count += len(piece.labels)
            if time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
                self._last = time.monotonic()
                logger.warning("data.source: %r has yielded %s images so far", self._name, f"{self._count:,}")
            yield piece
