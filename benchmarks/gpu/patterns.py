"""Images of ten classes that need no file: a smooth pattern each, faint under noise."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_CLASSES, _SIDE, _COARSE = 10, 16, 4
_TRAIN, _TEST = 400, 200


def write(folder: Path) -> Path:
    """Write them as a source ``numpy`` reads them: uint8 (N, 16, 16, 3), the same at every call."""
    drawn = np.random.default_rng(0)
    coarse = drawn.normal(size=(_CLASSES, _COARSE, _COARSE, 3))
    smooth = coarse.repeat(_SIDE // _COARSE, axis=1).repeat(_SIDE // _COARSE, axis=2)

    def some(count: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        labels = np.arange(count) % _CLASSES
        pixels = 128 + 20 * smooth[labels] + 30 * drawn.normal(size=(count, _SIDE, _SIDE, 3))
        return pixels.clip(0, 255).astype(np.uint8), labels

    file = folder / "patterns.npz"
    (x_train, y_train), (x_test, y_test) = some(_TRAIN), some(_TEST)
    np.savez(file, x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    return file
