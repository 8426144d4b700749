"""Folders of PNG, one a class, with a table of everything else beside them."""

import csv
import io
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from advfeat.export.pixels import png
from advfeat.export.split import Split


def write_class_folders(split: Split, folder: Path) -> Iterator[None]:
    """Write a PNG an image, and ``metadata.csv`` as Hugging Face's ``imagefolder`` reads it.

    Other readers, such as torchvision's ``ImageFolder``, number the classes in the order of the folders'
    names, which is that of the labels.
    """
    place = folder / split.name
    names = folder_names(split.classes)
    for name in names:  # also of a class without images, which readers would not count otherwise
        (place / name).mkdir(parents=True)
    with tempfile.TemporaryFile(dir=folder) as file, io.TextIOWrapper(file, "utf-8", newline="") as text:
        table: csv.DictWriter[str] | None = None
        for piece in split.pieces:
            for name, image, record in piece.records:
                path = f"{names[int(str(record['label']))]}/{name}.png"
                (place / path).write_bytes(png(image))
                if table is None:
                    table = csv.DictWriter(text, ["file_name", *record])
                    table.writeheader()
                table.writerow({"file_name": path, **record})
            yield
        text.flush()
        file.seek(0)
        with (place / "metadata.csv").open("wb") as whole:
            shutil.copyfileobj(file, whole)
    yield


def folder_names(classes: Sequence[str]) -> list[str]:
    """Name a folder for each class, so that they sort as the labels do: with a number where names do not."""
    names = [re.sub(r"\W+", "-", name).strip("-") or "unnamed" for name in classes]
    if names == sorted({name.casefold(): name for name in names}.values()):  # some disks take A for a
        return names
    digits = len(str(len(names) - 1))
    return [f"{label:0{digits}d}-{name}" for label, name in enumerate(names)]
