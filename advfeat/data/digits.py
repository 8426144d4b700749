"""scikit-learn's bundled handwritten digits: 1,797 images of 8x8 pixels, nothing to download.

Origin: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning
Repository, 1998 (the test part), as shipped with scikit-learn.
"""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

from advfeat.data.images import LabelledImages, Splits
from advfeat.data.split import held_out, held_out_sizes
from advfeat.digest import file_sha256
from advfeat.spec import DataSpec

_LEVELS = 16
_CLASSES = tuple("0123456789")


def _bundled_file() -> Path:
    # Finding the package does not import it, which would take two seconds.
    package = importlib.util.find_spec("sklearn")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"


class DigitsSource:
    """The bundled digits; grey levels 0 to 16 become 0 to 255."""

    def __init__(self, spec: DataSpec) -> None:
        self.spec = spec

    def identity(self) -> dict[str, Any]:
        """Say which bytes are meant."""
        return {"digits": file_sha256(_bundled_file()), "test_fraction": self.spec.test_fraction}

    def sizes(self) -> tuple[int, int]:
        """Count the training and the test images."""
        return held_out_sizes(_everything().labels, self.spec.test_fraction)

    def image_shape(self) -> tuple[int, ...]:
        """Return channels, height and width."""
        return 1, 8, 8

    def class_count(self) -> int:
        """Count the digits."""
        return len(_CLASSES)

    def class_names(self) -> tuple[str, ...]:
        """Name the classes."""
        return _CLASSES

    def splits(self) -> Splits:
        """Read all images, with a stratified test split."""
        return held_out(_everything(), _CLASSES, self.spec.test_fraction)


def _everything() -> LabelledImages:
    table = np.loadtxt(_bundled_file(), delimiter=",")
    levels = np.round(table[:, :-1] * (255 / _LEVELS)).astype(np.uint8)
    return LabelledImages(levels.reshape(-1, 1, 8, 8), table[:, -1].astype(np.int64))
