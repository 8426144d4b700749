"""Shards -> the parts of a data set: those that a shard holds as they are, the few at the shards' seams anew.

A shard is cut where its data set is. So most of its parts are the data set's, byte for byte, which then only
get their names: a second one of the same file on a disk, a copy by the server elsewhere. Each part is read
and held against its SHA-256 nevertheless: what a shard's disk has damaged must not become the data set's.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, groupby
from pathlib import Path

import pyarrow as pa

from advfeat.datasets.rows import DatasetSummary
from advfeat.datasets.stored_rows import Part, other_rows, part_contents, stored_parts
from advfeat.files.parts import part_name
from advfeat.files.tables import part_rows, read_tables, write_split
from advfeat.storage import Store
from advfeat.storage.uploads import Uploads


def join_shards(
    store: Store, shards: Sequence[str], summary: DatasetSummary, folder: Path, uploads: Uploads
) -> None:
    """Make the parts of a data set of its shards' rows, in order, and sum these up.

    The parts depend on the rows alone. Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    for whole, run in groupby(_placed(store, shards), lambda placed: placed.is_whole):
        parts = list(run)
        contents = part_contents(store, [placed.part for placed in parts])
        if not whole:
            tables = chain.from_iterable(read_tables(content) for _, content in contents)
            write_split(summary.counted(tables), folder, "train", uploads.add, first_row=parts[0].first_row)
            continue
        for placed, (part, content) in zip(parts, contents, strict=True):
            table = pa.concat_tables(read_tables(content, summary.columns))
            if table.num_rows != len(part.rows):
                raise other_rows([part])
            summary.count(table)
            uploads.take_over(part.digest, part.file, part_name("train", placed.first_row))


@dataclass(frozen=True)
class _Placed:
    """A part of a shard, the row of the data set that it begins with, and whether it is one of its parts."""

    part: Part
    first_row: int
    is_whole: bool


def _placed(store: Store, shards: Sequence[str]) -> Iterator[_Placed]:
    parts = [part for shard in shards for part in stored_parts(store, shard)]
    parts = [part for part in parts if part.rows] or parts[:1]
    edges = list(accumulate((len(part.rows) for part in parts), initial=0))
    with store.opened(parts[0].digest, parts[0].file) as file:
        rows = part_rows(next(read_tables(file, rows=range(0))).schema)
    for part, first_row in zip(parts, edges, strict=False):
        last_row = first_row + len(part.rows)
        is_whole = first_row % rows == 0 and last_row in (first_row + rows, edges[-1])
        yield _Placed(part, first_row, is_whole)
