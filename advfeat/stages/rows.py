"""The rows of stored images and data sets, a piece at a time."""

from collections.abc import Iterator, Sequence

import pyarrow as pa

from advfeat.store import Store
from advfeat.tables import read_table


def stored_tables(
    store: Store, digest: str, split: str = "train", columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """Read a split of a data set or of real images, in order, a piece of its rows at a time.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    table = read_table(store.read(digest, f"{split}.parquet"))
    yield table if columns is None else table.select(columns)
