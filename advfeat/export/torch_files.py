"""The layout of Ilyas et al. (2019): files ``CIFAR_ims`` and ``CIFAR_lab``, lists of tensors to concatenate.

As published in https://github.com/MadryLab/constructed-datasets, whatever the images are of.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch

from advfeat.export.split import Split
from advfeat.files.tables import int_array

_TYPES = {"uint8": torch.uint8, "float16": torch.float16, "float32": torch.float32}


def write_torch(split: Split, folder: Path) -> Iterator[None]:
    """Write images (n, C, H, W) and int64 labels (n,); ``torch.load`` reads them with ``weights_only``.

    The training images lie where the published ones do, at the top, others in a folder of their own.
    """
    place = folder if split.name == "train" else folder / split.name
    place.mkdir(exist_ok=True)
    images, labels = [], []
    # The file holds all pieces: they wait on disk, mapped into memory, until it is written.
    with tempfile.TemporaryDirectory(dir=folder) as waiting:
        for piece in split.pieces:
            path = Path(waiting) / str(piece.number)
            piece.images.tofile(path)
            mapped = torch.from_file(
                str(path), shared=False, size=piece.images.size, dtype=_TYPES[split.precision]
            )
            images.append(mapped.view(piece.images.shape))
            labels.append(torch.from_numpy(int_array(piece.columns, "label")))
        torch.save(images, place / "CIFAR_ims")
    torch.save(labels, place / "CIFAR_lab")
    yield
