"""The rows of stored images and data sets, a part at a time.

The next parts are fetched, checked and decoded while the caller works on one, so that reading and
computing overlap and no more than a few parts are in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pyarrow as pa

from advfeat.ahead import computed_ahead
from advfeat.artifact import StoredFile
from advfeat.errors import MissingArtifactError
from advfeat.parts import PARTS_AHEAD, first_row
from advfeat.store import Store
from advfeat.tables import read_table


@dataclass(frozen=True)
class Part:
    """A file of a stored split and the rows that it holds."""

    digest: str
    file: StoredFile
    rows: range

    def read(self, store: Store, columns: Sequence[str] | None = None) -> pa.Table:
        """Read its rows; raises ``DamagedArtifactError`` if the bytes are not those of the manifest."""
        return read_table(store.read_file(self.digest, self.file), columns)


def stored_parts(store: Store, digest: str, split: str = "train") -> list[Part]:
    """Return the parts of a split, in order.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    manifest = store.manifest(digest)
    files = {start: file for file in manifest.files if (start := first_row(file.name, split)) is not None}
    if not files:
        raise MissingArtifactError(f"{store.artifact_uri(digest)} holds no rows of {split}")
    edges = [*sorted(files), int(manifest.metrics[f"{split}_size"])]
    return [Part(digest, files[start], range(start, stop)) for start, stop in pairwise(edges)]


def stored_tables(
    store: Store,
    digest: str,
    split: str = "train",
    columns: Sequence[str] | None = None,
    rows: range | None = None,
) -> Iterator[pa.Table]:
    """Read a split of a data set or of real images, in order, a part of its rows at a time.

    ``columns`` and ``rows`` limit what is read to some columns and to consecutive rows. Raises
    ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    parts = stored_parts(store, digest, split)
    wanted = range(parts[-1].rows.stop) if rows is None else rows
    parts = [part for part in parts if _shared(part.rows, wanted)] or parts[:1]
    tables = computed_ahead(lambda part: part.read(store, columns), parts, PARTS_AHEAD)
    for part, table in zip(parts, tables, strict=True):
        inside = _shared(part.rows, wanted)
        yield table.slice(inside.start - part.rows.start, len(inside))


def _shared(part: range, wanted: range) -> range:
    start = min(part.stop, max(part.start, wanted.start))
    return range(start, max(start, min(part.stop, wanted.stop)))
