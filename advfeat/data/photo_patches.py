"""8x8 grey patches of scikit-learn's two bundled photographs: a domain without digits, nothing to download.

Origin: ``china.jpg`` and ``flower.jpg`` (CC BY, by "danielbuechele" and "dany13"), as shipped with
scikit-learn; the class of a patch is its photograph.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages, Splits
from advfeat.data.split import held_out, held_out_sizes
from advfeat.digest import file_sha256
from advfeat.pictures.picture_file import decode_picture
from advfeat.spec import DataSpec

_PHOTOGRAPHS = ("china", "flower")
_SIDE = 8


def _bundled_file(name: str) -> Path:
    # Finding the package does not import it, which would take two seconds.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "images" / f"{name}.jpg"


class PhotoPatches:
    """The photographs, cut into patches side by side, in their order."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    def identity(self) -> dict[str, Any]:
        """Say which bytes are meant."""
        digests = {name: file_sha256(_bundled_file(name)) for name in _PHOTOGRAPHS}
        return {"photo-patches": digests, "test_fraction": self.spec.test_fraction}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images."""
        return held_out_sizes(_everything().labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width."""
        return 1, _SIDE, _SIDE

    def class_count(self) -> int:
        """Count the photographs."""
        return len(_PHOTOGRAPHS)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes."""
        return _PHOTOGRAPHS

    def splits(self) -> Splits:
        """Read all patches, with a stratified test split."""
        return held_out(_everything(), _PHOTOGRAPHS, self.spec.test_fraction)


def _everything() -> LabelledImages:
    patches = [_patches(_bundled_file(name)) for name in _PHOTOGRAPHS]
    labels = np.repeat(np.arange(len(patches)), [len(found) for found in patches])
    return LabelledImages(np.concatenate(patches), labels)


def _patches(file: Path) -> NDArray[np.uint8]:
    grey = np.asarray(decode_picture(file.read_bytes(), "L"))
    rows, columns = (length // _SIDE for length in grey.shape)
    whole = grey[: rows * _SIDE, : columns * _SIDE].reshape(rows, _SIDE, columns, _SIDE)
    return np.ascontiguousarray(whole.transpose(0, 2, 1, 3).reshape(-1, 1, _SIDE, _SIDE))
