"""The files in which Ilyas et al. (2019) published their data sets: ``CIFAR_ims`` and ``CIFAR_lab``.

Each holds a list of tensors to concatenate, or one tensor (README of MadryLab/constructed-datasets), perhaps
saved on a GPU. They are read with ``weights_only``: tensors and plain containers of such, no code.
"""

import os
import warnings
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.labels import GivenLabels
from advfeat.data.refusal import Refusal, checked_labels
from advfeat.digest import stream_sha256
from advfeat.errors import explained
from advfeat.files.place import place_of

_IMAGES, _LABELS = "CIFAR_ims", "CIFAR_lab"


class TorchFiles:
    """A folder with a file of images (N, C, H, W) and one of labels (N,)."""

    def __init__(self, location: str, refused: Refusal) -> None:
        self._refused = refused
        with explained(refused):
            place = place_of(location)
            self._fs, self._root = place.fs, place.root
            for name in (_IMAGES, _LABELS):
                if not self._fs.isfile(self._path(name)):
                    raise refused(f"holds no file {name}")

    def sha256(self) -> list[str]:
        """Hash both files."""
        digests = []
        for name in (_IMAGES, _LABELS):
            with explained(self._refused), self._fs.open(self._path(name), "rb") as file:
                digests.append(stream_sha256(file)[0])
        return digests

    def reading(self) -> dict[str, int]:
        """Say nothing: these are pixels."""
        return {}

    def labels(self) -> GivenLabels:
        """Read all labels."""
        parts = self._arrays(_LABELS)
        if any(part.ndim != 1 for part in parts):
            raise self._refused(f"has labels in {_LABELS} that are not one a row")
        return GivenLabels(checked_labels(np.concatenate(parts), self._refused))

    def images(self) -> Iterator[NDArray[Any]]:
        """Yield the images, all of which are in memory."""
        for part in self._arrays(_IMAGES):
            if part.ndim != 4:
                raise self._refused(f"has images of shape {part.shape} in {_IMAGES}, not (N, C, H, W)")
            yield part

    def _arrays(self, name: str) -> list[NDArray[Any]]:
        import torch

        with explained(self._refused), self._fs.open(self._path(name), "rb") as file:
            length = file.seek(0, os.SEEK_END)
            if _unpacked_bytes(file) > length:
                raise self._refused(f"holds a compressed {name}, which torch does not write")
            file.seek(0)
            try:
                with warnings.catch_warnings(action="ignore"):
                    found = torch.load(file, map_location="cpu", weights_only=True)
            except Exception as error:  # foreign bytes can raise anything, with advice to run their code
                problem = f"holds no complete file of only tensors in {name} ({type(error).__name__})"
                raise self._refused(problem) from error
            parts = found if isinstance(found, list | tuple) else [found]
            if not parts or not all(isinstance(part, torch.Tensor) for part in parts):
                raise self._refused(f"holds no tensor and no list of tensors in {name}")
            # A view can repeat a few bytes without end; a file's own tensors are no larger than the file.
            if sum(part.numel() * part.element_size() for part in parts) > length:
                raise self._refused(f"holds tensors in {name} that are larger than the file")
            parts = [part.detach() for part in parts]
            return [(part.float() if part.is_floating_point() else part).numpy() for part in parts]

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


def _unpacked_bytes(file: Any) -> int:
    """Return the size of what a zip archive holds; 0 if the file is none, as torch before 1.6 wrote it."""
    if not zipfile.is_zipfile(file):
        return 0
    with zipfile.ZipFile(file) as archive:
        return sum(member.file_size for member in archive.infolist())
