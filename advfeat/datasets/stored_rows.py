"""The rows of stored images and data sets, a piece at a time.

The next parts are fetched and checked while the caller works on one, so that reading and computing overlap
and no more than a few parts are in memory. A part is decoded a row group at a time, which stays in the
processor's cache.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from advfeat.ahead import computed_ahead
from advfeat.errors import DamagedArtifactError, MissingArtifactError
from advfeat.files.parts import PART_BYTES, PARTS_AHEAD, first_row, rows_per_part
from advfeat.files.tables import Pixel, copy_images, float_array, int_array, read_tables
from advfeat.storage import Store, StoredFile


@dataclass(frozen=True)
class Part:
    """A file of a stored split and the rows that it holds."""

    digest: str
    file: StoredFile
    rows: range


def stored_parts(store: Store, digest: str, split: str = "train") -> list[Part]:
    """Return the parts of a split, in order.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    manifest = store.manifest(digest)
    files = {start: file for file in manifest.files if (start := first_row(file.name, split)) is not None}
    if not files:
        raise MissingArtifactError(f"{store.artifact_uri(digest)} holds no rows of {split}")
    edges = [*sorted(files), int(manifest.metrics.get(f"{split}_size", 0))]
    if any(not 0 <= stop - start <= PART_BYTES for start, stop in pairwise(edges)):
        raise DamagedArtifactError(f"{store.artifact_uri(digest)} says of {split} what no part can hold")
    return [Part(digest, files[start], range(start, stop)) for start, stop in pairwise(edges)]


def stored_tables(
    store: Store,
    digest: str,
    split: str = "train",
    columns: Sequence[str] | None = None,
    rows: range | None = None,
) -> Iterator[pa.Table]:
    """Read a split of a data set or of real images, in order, a piece of its rows at a time.

    ``columns`` and ``rows`` limit what is read to some columns and to consecutive rows. There is at least
    one table, perhaps without rows. Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    parts = stored_parts(store, digest, split)
    wanted = range(parts[-1].rows.stop) if rows is None else rows
    parts = [p for p in parts if p.rows.start < wanted.stop and wanted.start < p.rows.stop] or parts[:1]
    for part, content in part_contents(store, parts):
        first = part.rows.start
        yield from read_tables(content, columns, range(wanted.start - first, wanted.stop - first))


def label_counts(store: Store, digest: str, split: str = "train") -> Counter[int]:
    """Count the labels of a split, and read little else of it: for what is shown, not for what is computed.

    No SHA-256 is compared, which would take all of the bytes; sizes are, and what the Parquet files say of
    themselves. Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """

    def counted(part: Part) -> Counter[int]:
        counts = Counter[int]()
        with store.opened(part.digest, part.file) as file:
            for table in read_tables(file, ["label"]):
                counts.update(int_array(table, "label").tolist())
        if counts.total() != len(part.rows):
            raise other_rows([part])
        return counts

    return sum(computed_ahead(counted, stored_parts(store, digest, split), PARTS_AHEAD), Counter[int]())


def images_and_labels(
    store: Store, parts: Sequence[Part], image_shape: tuple[int, ...], pixel: type[Pixel]
) -> tuple[NDArray[Pixel], NDArray[Any]]:
    """Read some parts into memory: images (n, C, H, W), and labels.

    Labels are int64 (n,), or float32 probabilities (n, classes) where there are such. Raises
    ``DamagedArtifactError``.
    """
    if any(len(part.rows) > rows_per_part(math.prod(image_shape)) for part in parts):
        raise DamagedArtifactError(f"a part of {parts[0].digest[:12]} says more rows than it can hold")
    images = np.empty((sum(len(part.rows) for part in parts), *image_shape), pixel)
    labels: list[NDArray[Any]] = []
    start = 0
    for _, content in part_contents(store, parts):
        for table in read_tables(content, ("image", "label", "soft_label")):
            stop = start + table.num_rows
            if stop > len(images):
                raise other_rows(parts)
            copy_images(table, images[start:stop])
            soft = "soft_label" in table.column_names
            labels.append(float_array(table, "soft_label") if soft else int_array(table, "label"))
            start = stop
    if start != len(images):
        raise other_rows(parts)
    return images, np.concatenate(labels)


def other_rows(parts: Sequence[Part]) -> DamagedArtifactError:
    """Return the error of parts that hold more or fewer rows than they should."""
    return DamagedArtifactError(f"{parts[0].digest[:12]} holds other rows than its manifest says")


def part_contents(store: Store, parts: Sequence[Part]) -> Iterator[tuple[Part, bytes]]:
    """Yield parts with their bytes, which are those that the manifest promises."""

    def fetched(part: Part) -> tuple[Part, bytes]:
        return part, store.read_file(part.digest, part.file)

    return computed_ahead(fetched, parts, PARTS_AHEAD)
