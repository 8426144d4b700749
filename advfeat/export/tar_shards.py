"""WebDataset: tar files of samples, an image, its class and a JSON record of everything else each."""

from collections.abc import Iterator
from pathlib import Path

from advfeat.export.pixels import rows_columns_channels
from advfeat.export.split import Split


def write_webdataset(split: Split, folder: Path) -> Iterator[None]:
    """Write a tar file a piece: ``.png`` for uint8, else ``.npy`` (C, H, W), with ``.cls`` and ``.json``."""
    from webdataset import TarWriter

    (folder / split.name).mkdir()
    for piece in split.pieces:
        with TarWriter(str(folder / split.file_name(piece.number, "tar")), mtime=0) as shard:
            for name, image, record in piece.records:
                picture = (
                    {"png": rows_columns_channels(image)} if split.precision == "uint8" else {"npy": image}
                )
                shard.write({"__key__": name, **picture, "cls": record["label"], "json": record})
        yield
