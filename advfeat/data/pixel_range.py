"""Pixels of any type of number -> uint8, where their range tells what is white; they are refused where not.

White is 1, 255 or 65535. Pixels that reach neither half of one nor the next below it could be anything (12
bits in 16, the digits' 0 to 16, images divided twice), and would come out nearly black.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import Split
from advfeat.data.refusal import Refusal

_ROUNDING = 0.5 / 255
_PIECE = 1024
_DARK = 127
"""uint8 that go no further may be meant to: it is told. Those of 0 and 1 alone are not, and refused."""

_MOST_DECODED = 16
"""Pictures that are looked at for being dark."""


@dataclass(frozen=True)
class PixelRange:
    """What is white in images (1, 255 or 65535), and what of it a reader should know, as predicates."""

    white: int
    told: tuple[str, ...] = ()


def pixel_range(
    images: Iterable[NDArray[np.generic]], refused: Refusal, *, exported: bool = False
) -> PixelRange:
    """Find what is white in images, given in pieces.

    uint8 and bool say it themselves; of uint8 no more is looked at than tells that they are not dark.
    So do floats that were ``exported`` by this package, in [0, 1]. Raises ``InputError`` where it cannot
    be told, for NaN, and for pixels below black.
    """
    lowest, highest, kind = np.inf, -np.inf, None
    for piece in images:
        check_pixel_type(piece.dtype, refused)
        if kind is not None and kind != piece.dtype:
            raise refused(f"has images of type {kind} and of type {piece.dtype}")
        kind = piece.dtype
        if kind.kind == "b" or (kind == np.uint8 and highest > _DARK):
            continue
        for start in range(0, len(piece), _PIECE):
            part = piece[start : start + _PIECE]
            if not part.size:
                raise refused("has images without pixels")
            low, high = float(part.min()), float(part.max())
            if not (np.isfinite(low) and np.isfinite(high)):
                raise refused("has pixels that are NaN or infinite")
            lowest, highest = min(lowest, low), max(highest, high)
            if kind == np.uint8 and highest > _DARK:
                break
    if kind is None:
        raise refused("holds no images")
    if kind.kind == "b":
        return PixelRange(1)
    if kind == np.uint8 and (exported or highest != 1):
        return PixelRange(255, _of_dark(highest))
    if exported and kind.kind == "f" and lowest >= -_ROUNDING and highest <= 1 + _ROUNDING:
        return PixelRange(1)
    return PixelRange(_white(lowest, highest, kind, refused))


def told_of_dark(pictures: Split) -> tuple[str, ...]:
    """Say so if a few of the pictures, at equal distances, are all dark, as masks of 0 and 1 are."""
    every = -(-len(pictures) // _MOST_DECODED)
    few = Split(pictures.of, pictures.rows[:: max(1, every)])
    return _of_dark(max((int(piece.images.max()) for piece in few.pieces(1)), default=255))


def _of_dark(highest: float) -> tuple[str, ...]:
    if highest > _DARK:
        return ()
    return (f"has images that are dark: no pixel is above {highest:.0f}, and 255 is white",)


def check_pixel_type(kind: np.dtype[np.generic], refused: Refusal) -> None:
    """Raise ``InputError`` unless pixels of a type are numbers."""
    if kind.kind not in "uifb":
        raise refused(f"has images of type {kind}, no numbers")


def as_bytes(images: NDArray[np.generic], white: int) -> NDArray[np.uint8]:
    """Return images whose white is ``white`` as uint8, rounded."""
    if images.dtype == np.uint8:
        return np.ascontiguousarray(images)
    scaled = images.astype(np.float32) * np.float32(255 / white)
    return np.asarray(np.rint(scaled).clip(0, 255), np.uint8)


def _white(lowest: float, highest: float, kind: np.dtype[np.generic], refused: Refusal) -> int:
    for white in (255, 65535) if kind.kind in "ui" else (1, 255, 65535):
        slack = 0.0 if kind.kind in "ui" else white * _ROUNDING
        if lowest >= -slack and white / 2 < highest <= white + slack:
            return white
    told = f"has pixels of type {kind} from {lowest:.4g} to {highest:.4g}, which do not tell what is white"
    is_mask = kind.kind in "ui" and (lowest, highest) == (0, 1)
    raise refused(f"{told} (0 and 255 do, or bool)" if is_mask else told)
