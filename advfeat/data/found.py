"""What a source holds, told before anything is computed with it: classes, splits, pictures, what is left out.

Headers are read, and bytes compared, of so many images that it takes seconds; of more it says so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from math import prod

import numpy as np
from numpy.typing import NDArray

from advfeat.data import Downloadable, Telling, open_source
from advfeat.data.decode import Pictures, picture_form
from advfeat.data.images import Split
from advfeat.data.split import cut, cut_sizes
from advfeat.pictures.form import PictureFile
from advfeat.spec import DataSpec

_MOST_HEADERS = 5_000
"""Of pictures that are opened; where there are more, so many at equal distances."""

_MOST_IMAGES, _MOST_BYTES = 100_000, 1 << 30
"""Of both splits together, that are compared."""


@dataclass(frozen=True)
class Found:
    """What a spec's source holds, and how much of it is used."""

    classes: tuple[str, ...]
    there: Mapping[str, int]
    """Images of each split, ``train`` and ``test``, of which the spec may use fewer."""
    used: Mapping[str, int]
    of_class: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """Images used of each class, by split; empty where no label is at hand."""
    forms: Mapping[str, int] = field(default_factory=dict)
    """How many of the images looked at have which mode and width x height, the most frequent first."""
    left_out: Mapping[str, Sequence[object]] = field(default_factory=dict)
    """What lies there and is not read, by what it is."""
    duplicates: Sequence[tuple[str, str]] | None = None
    """Test images whose bytes are also in the training split, each with such a one; None if not compared."""


def found(spec: DataSpec) -> Found:
    """Look at what a spec's images are; raises ``InputError`` for what is no image or of another size."""
    source = open_source(spec)
    whole = source.sizes()
    there, used = (
        dict(zip(("train", "test"), each, strict=True)) for each in (whole, cut_sizes(whole, spec))
    )
    if isinstance(source, Downloadable):
        forms = {_size(source.image_shape()): sum(used.values())}
        return Found(source.class_names(), there, used, forms=forms)
    splits = cut(source.splits(), spec)
    by_name = {"train": splits.train, "test": splits.test}
    return Found(
        splits.classes,
        there,
        used,
        {name: _of_class(split, len(splits.classes)) for name, split in by_name.items()},
        _forms(list(by_name.values()), source.image_shape()),
        source.left_out() if isinstance(source, Telling) else {},
        _duplicates(splits.train, splits.test, prod(source.image_shape())),
    )


def _of_class(split: Split, classes: int) -> NDArray[np.int64]:
    return np.bincount(split.of.labels[split.rows], minlength=classes)


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{'grey' if channels == 1 else 'RGB'} {width} x {height}"


def _forms(splits: list[Split], shape: tuple[int, ...]) -> dict[str, int]:
    every = -(-sum(map(len, splits)) // _MOST_HEADERS)
    seen: Counter[str] = Counter()
    for split in splits:
        if not isinstance(split.of, Pictures):
            seen[_size(shape)] += len(split)
            continue
        for file in split.of.read(split.rows[::every]):
            mode, (width, height) = picture_form(file)
            split.of.form.check_size(file[0], (height, width))
            seen[f"{mode} {width} x {height}"] += 1
    return dict(seen.most_common())


def _duplicates(train: Split, test: Split, image_bytes: int) -> list[tuple[str, str]] | None:
    """Return test images with one of the same bytes in the training split; None if they are too many."""
    as_files = isinstance(train.of, Pictures)
    if len(train) + len(test) > _MOST_IMAGES:
        return None
    if not as_files and (len(train) + len(test)) * image_bytes > _MOST_BYTES:
        return None
    read, by_content = 0, dict[bytes, str]()
    for name, content in _contents(train):
        by_content.setdefault(blake2b(content, digest_size=16).digest(), name)
        if (read := read + len(content)) > _MOST_BYTES:
            return None
    twice = []
    for name, content in _contents(test):
        if (same := by_content.get(blake2b(content, digest_size=16).digest())) is not None:
            twice.append((name, same))
        if (read := read + len(content)) > _MOST_BYTES:
            return None
    return twice


def _contents(split: Split) -> Iterator[PictureFile]:
    """Yield the images' bytes, encoded ones as they are, with what to call each by."""
    if isinstance(split.of, Pictures):
        yield from split.of.read(split.rows)
        return
    names = iter(split.rows.tolist())
    for piece in split.pieces(1024):
        for image in piece.images:
            yield f"image {next(names)}", image.tobytes()
