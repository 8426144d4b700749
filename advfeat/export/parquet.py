"""Parquet: the columns as they are stored, ``image`` at the precision asked for."""

from collections.abc import Iterator
from pathlib import Path

from advfeat.export.split import Split
from advfeat.files.tables import image_column, with_image_shape, write_table


def write_parquet(split: Split, folder: Path) -> Iterator[None]:
    """Write a Parquet file a piece; ``image`` is a list of C·H·W values, its shape in the metadata."""
    (folder / split.name).mkdir()
    for piece in split.pieces:
        table = piece.columns.append_column("image", image_column(piece.images))
        write_table(
            with_image_shape(table, split.image_shape), folder / split.file_name(piece.number, "parquet")
        )
        yield
