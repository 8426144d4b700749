"""The real test images behind a data set, as a second split of it with the same columns."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from advfeat.datasets.card import Card
from advfeat.datasets.stored_rows import label_counts, stored_tables
from advfeat.export.split import Piece
from advfeat.storage import Store, input_of


@dataclass(frozen=True)
class RealTest:
    """The test split of the real images that a data set was made from."""

    digest: str
    """Of the real images."""
    rows: int
    class_balance: dict[str, int]

    def tables(self, store: Store) -> Iterator[pa.Table]:
        """Read its rows: ``image``, uint8, and ``label``, int64."""
        return stored_tables(store, self.digest, "test")


def real_test_of(store: Store, card: Card) -> RealTest | None:
    """Find the real test images of a data set; None for real images, which have theirs, or where none are.

    Raises ``MissingArtifactError`` or ``DamagedArtifactError``.
    """
    if card.stage != "dataset":
        return None
    images = input_of(store, store.manifest(card.digest), "images", "images")
    rows = int(images.metrics.get("test_size", 0))
    if not rows:
        return None
    counts = label_counts(store, images.digest, "test")
    balance = {name: counts[label] for label, name in enumerate(card.classes)}
    return RealTest(images.digest, rows, balance)


def with_columns_of(schema: pa.Schema, pieces: Iterable[Piece]) -> Iterator[Piece]:
    """Give pieces of real images a data set's columns: readers take splits of the same columns alone.

    ``index`` counts the test images, ``original_label`` is ``label``, ``perturbation_norm`` is 0. What
    nobody measured there is null.
    """
    for piece in pieces:
        labels, rows = piece.columns.column("label"), piece.columns.num_rows
        known = {
            "index": pa.array(np.arange(piece.first_row, piece.first_row + rows)),
            "label": labels,
            "original_label": labels,
            "perturbation_norm": pa.array(np.zeros(rows)),
        }
        columns = [
            known[field.name].cast(field.type) if field.name in known else pa.nulls(rows, field.type)
            for field in schema
        ]
        yield Piece(piece.number, piece.first_row, piece.images, pa.table(columns, schema=schema))
