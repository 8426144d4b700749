"""Pixels of any type of number -> uint8, where their range tells what is white; they are refused where not.

White is 1, 255 or 65535. Pixels that reach neither half of one nor the next below it could be anything (12
bits in 16, the digits' 0 to 16, images divided twice), and would come out nearly black.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import Split
from advfeat.data.refusal import Refusal

_WHITES = (1, 255, 65535)
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


@dataclass
class _Extent:
    """What a split's pixels reach, and how many images no more than 1; of uint8 not all are looked at."""

    kind: np.dtype[np.generic] | None = None
    lowest: float = np.inf
    highest: float = -np.inf
    images: int = 0
    up_to_one: int = 0

    def add(self, images: NDArray[np.generic], refused: Refusal) -> None:
        if not images.size:
            raise refused("has images without pixels")
        each = images.reshape(len(images), -1).max(1)
        low, high = float(images.min()), float(each.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise refused("has pixels that are NaN or infinite")
        self.lowest, self.highest = min(self.lowest, low), max(self.highest, high)
        self.images += len(images)
        self.up_to_one += int(((each > 0) & (each <= 1 + _ROUNDING)).sum())


def pixel_range(
    splits: Mapping[str, Iterable[NDArray[np.generic]]], refused: Refusal, *, exported: bool = False
) -> PixelRange:
    """Find what is white in all images, which are given in pieces by split.

    uint8 and bool say it themselves; of uint8 no more is looked at than tells that they are not dark.
    So do floats that were ``exported`` by this package, in [0, 1]. Raises ``InputError`` where it cannot
    be told, for NaN, for pixels below black, and where images are not scaled alike.
    """
    extents = _extents(splits, refused)
    kind = next(iter(extents.values())).kind if extents else None
    if kind is None:
        raise refused("holds no images")
    if kind.kind == "b":
        return PixelRange(1)
    lowest, highest = min(each.lowest for each in extents.values()), _highest(extents)
    if exported and kind == np.uint8:
        return PixelRange(255, _of_dark(highest))
    if exported and kind.kind == "f" and lowest >= -_ROUNDING and highest <= 1 + _ROUNDING:
        return PixelRange(1)
    white = 255 if kind == np.uint8 and highest != 1 else _white(lowest, highest, kind, refused)
    _check_scaled_alike(extents, white, refused)
    return PixelRange(white, (*_of_dark_splits(extents, white), *_of_images_up_to_one(extents, white)))


def _extents(splits: Mapping[str, Iterable[NDArray[np.generic]]], refused: Refusal) -> dict[str, _Extent]:
    """Look at all images; those of a kind that says what is white only until one of a split is not dark."""
    extents: dict[str, _Extent] = {}
    kind = None
    for name, pieces in splits.items():
        for piece in pieces:
            check_pixel_type(piece.dtype, refused)
            if kind is not None and kind != piece.dtype:
                raise refused(f"has images of type {kind} and of type {piece.dtype}")
            kind = piece.dtype
            extent = extents.setdefault(name, _Extent(kind))
            for start in range(0, 0 if kind.kind == "b" else len(piece), _PIECE):
                if kind == np.uint8 and extent.highest > _DARK:
                    break
                extent.add(piece[start : start + _PIECE], refused)
    return extents


def _highest(extents: Mapping[str, _Extent]) -> float:
    return max(each.highest for each in extents.values())


def _check_scaled_alike(extents: Mapping[str, _Extent], white: int, refused: Refusal) -> None:
    """Raise ``InputError`` if a split, or most of its images, reach no more than a white that is smaller."""
    smaller = max((each for each in _WHITES if each < white), default=0)
    for name, extent in extents.items():
        if 0 < extent.highest <= smaller + smaller * _ROUNDING:
            where = "" if name == "all" else f" for {name}"
            raise refused(
                f"has images{where} with pixels up to {extent.highest:.4g}, and others up to "
                f"{_highest(extents):.4g}, which are not scaled alike"
            )
        if white > 1 and extent.kind != np.uint8 and 2 * extent.up_to_one > extent.images:
            raise refused(
                f"has {extent.up_to_one:,} of {extent.images:,} images with pixels up to 1, and others up to "
                f"{extent.highest:.4g}, which are not scaled alike"
            )


def told_of_dark(pictures: Split) -> tuple[str, ...]:
    """Say so if a few of the pictures, at equal distances, are all dark, as masks of 0 and 1 are."""
    every = -(-len(pictures) // _MOST_DECODED)
    few = Split(pictures.of, pictures.rows[:: max(1, every)])
    return _of_dark(max((int(piece.images.max()) for piece in few.pieces(1)), default=255))


def _of_dark(highest: float, split: str = "", white: int = 255) -> tuple[str, ...]:
    if highest > white / 2:
        return ()
    where = f" for {split}" if split else ""
    return (f"has images{where} that are dark: no pixel is above {highest:.4g}, and {white} is white",)


def _of_dark_splits(extents: Mapping[str, _Extent], white: int) -> tuple[str, ...]:
    if of_all := _of_dark(_highest(extents), white=white):
        return of_all
    return tuple(line for name, each in extents.items() for line in _of_dark(each.highest, name, white))


def _of_images_up_to_one(extents: Mapping[str, _Extent], white: int) -> tuple[str, ...]:
    count = sum(each.up_to_one for each in extents.values() if each.kind != np.uint8)
    if white == 1 or not count:
        return ()
    return (f"has images that are nearly black ({count:,}): no pixel is above 1, and {white} is white",)


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
    for white in _WHITES[1:] if kind.kind in "ui" else _WHITES:
        slack = 0.0 if kind.kind in "ui" else white * _ROUNDING
        if lowest >= -slack and white / 2 < highest <= white + slack:
            return white
    told = f"has pixels of type {kind} from {lowest:.4g} to {highest:.4g}, so the value for white is unknown"
    is_mask = kind.kind in "ui" and (lowest, highest) == (0, 1)
    raise refused(f"{told} (use 0 and 255, or bool)" if is_mask else told)
