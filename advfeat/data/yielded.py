"""What a function of the user's own yields -> arrays of images and labels, a piece at a time.

It yields pairs, of an image and its label or of many images and as many labels, or is a data set that is read
by number. What is no such pair is refused with the line at which the function stands.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from advfeat.data.labels import UNLABELLED
from advfeat.data.numpy_files import channels_first
from advfeat.data.pixel_range import check_pixel_type
from advfeat.data.refusal import Refusal, checked_labels, refuse_image_size
from advfeat.errors import InputError, first_line
from advfeat.extensions.functions import Refused, called, told_of
from advfeat.pictures.picture_file import PictureError, as_seen, is_grey
from advfeat.spec import DataSpec

_MOST_IMAGES, _MOST_BYTES = 1024, 4 << 20
"""Of a piece."""

_PAIRS = "yield pairs: an image and its label, or an array of images and an array of as many labels"
_IMAGES = "yield images H x W, or that with 1 or 3 channels before or after it, as uint8 or floats in [0, 1]"
_LABELS = "yield whole numbers from 0, or names, one per image"


@dataclass(frozen=True)
class Piece:
    """Images (n, C, H, W) of any numbers, and their labels (n,): int64, or text."""

    images: NDArray[Any]
    labels: NDArray[Any]


def yielded(
    function: Callable[..., Any], given: Mapping[str, Any], spec: DataSpec, refused: Refused
) -> Iterator[Piece]:
    """Call a function and yield what it yields, in pieces of a few MB and of one type each.

    All images have the shape of the first one, unless ``spec.image_size`` brings pictures of Pillow to one.
    What is yielded is a copy: the function may fill the same array again. Raises what ``refused`` makes.
    """
    waiting: list[Piece] = []
    rows = 0
    for piece in _pieces(function, given, spec, refused):
        rows += len(piece.labels)
        if waiting and (rows > _at_once(piece.images) or not _are_alike(waiting[0], piece)):
            yield _joined(waiting)
            waiting, rows = [], len(piece.labels)
        waiting.append(piece)
    if waiting:
        yield _joined(waiting)


def _are_alike(one: Piece, other: Piece) -> bool:
    return one.images.dtype == other.images.dtype and one.labels.dtype.kind == other.labels.dtype.kind


def _at_once(images: NDArray[Any]) -> int:
    return max(1, min(_MOST_IMAGES, _MOST_BYTES // max(1, images[:1].nbytes)))


def _joined(pieces: list[Piece]) -> Piece:
    if len(pieces) == 1:
        return pieces[0]
    return Piece(
        np.concatenate([piece.images for piece in pieces]), np.concatenate([piece.labels for piece in pieces])
    )


def _pieces(
    function: Callable[..., Any], given: Mapping[str, Any], spec: DataSpec, refused: Refused
) -> Iterator[Piece]:
    pairs = _pairs(called(function, refused, given), refused)

    def here(problem: str, remedy: str) -> InputError:
        frame = getattr(pairs, "gi_frame", None)
        at = "" if frame is None else f" ({frame.f_code.co_filename}, line {frame.f_lineno})"
        return refused(f"{problem}{at}", remedy)

    shape: tuple[int, ...] | None = None
    for pair in _until_it_fails(pairs, refused):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise here(f"yields {_kind(pair)}, no pair", _PAIRS)
        labels = _labels(pair[1], here)
        images = _images(pair[0], labels.ndim == 0, spec, here)
        labels = labels.reshape(-1)
        if len(images) != len(labels):
            raise here(f"yields {len(images)} images and {len(labels)} labels", _PAIRS)
        shape = images.shape[1:] if shape is None else shape
        if images.shape[1:] != shape:
            raise here(f"yields images of {_size(images.shape[1:])}, the first is {_size(shape)}", _ONE_SIZE)
        at_once = _at_once(images)
        for start in range(0, len(labels), at_once):
            rows = slice(start, start + at_once)
            yield Piece(np.array(images[rows], order="C"), labels[rows].copy())


_ONE_SIZE = "bring all to one size and as many channels; data.image_size does with pictures of Pillow's"


def _pairs(returned: Any, refused: Refused) -> Iterator[Any]:
    if isinstance(returned, Iterable):
        return iter(called(returned.__iter__, refused, {}))
    if hasattr(returned, "__len__") and hasattr(returned, "__getitem__"):  # a data set of torch
        return map(returned.__getitem__, range(len(returned)))
    raise refused(f"returns {_kind(returned)}", _PAIRS)


def _until_it_fails(pairs: Iterator[Any], refused: Refused) -> Iterator[Any]:
    try:
        yield from pairs
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise refused(f"fails: {told_of(error)}", "correct it") from error


def _labels(value: Any, here: Refused) -> NDArray[Any]:
    """Return one label () or several (n,) as int64 or as text."""
    refused = _with(here, _LABELS)
    array = _array(value, "labels", refused)
    if array.dtype.kind == "O" and array.size and all(isinstance(each, str) for each in array.flat):
        array = array.astype(str)
    if array.dtype.kind == "U" and isinstance(value, list | tuple):
        array = array if all(isinstance(each, str) for each in value) else np.asarray(value, object)
    if array.dtype.kind not in "iuU" or array.ndim > 1:
        raise refused(f"yields labels of type {array.dtype} and shape {array.shape}")
    if array.dtype.kind == "U":
        if (array == "").any():
            raise refused("yields a label of empty text")
        return array
    if not array.size:
        return array.astype(np.int64)
    return checked_labels(np.atleast_1d(array), refused, lowest=UNLABELLED).reshape(array.shape)


def _images(value: Any, is_one: bool, spec: DataSpec, here: Refused) -> NDArray[Any]:
    """Return one image, or several, as (n, C, H, W)."""
    refused = _with(here, _IMAGES)
    if isinstance(value, Image.Image):
        if not is_one:
            raise here("yields one picture with several labels", _PAIRS)
        return _picture(value, spec, refused)[None]
    if isinstance(value, list | tuple) and any(isinstance(each, Image.Image) for each in value):
        pictures = [_picture(each, spec, refused) for each in value]
        if len({picture.shape for picture in pictures}) > 1:
            raise here("yields pictures of several sizes at once", _ONE_SIZE)
        return np.stack(pictures)
    refuse_image_size(spec)
    array = _array(value, "images", refused)
    check_pixel_type(array.dtype, lambda problem: refused(problem.replace("has", "yields", 1)))
    expected = (2, 3) if is_one else (3, 4)
    if array.ndim not in expected:
        what = "an image" if is_one else "images"
        raise refused(f"yields {what} of shape {array.shape}")
    return channels_first(
        array[None] if is_one else array, lambda _: refused(f"yields images of shape {array.shape}")
    )


def _picture(value: Any, spec: DataSpec, refused: Refusal) -> NDArray[np.uint8]:
    if not isinstance(value, Image.Image):
        raise refused(f"yields {_kind(value)} among pictures")
    try:
        picture = as_seen(value, "L" if is_grey(value) else "RGB")
    except PictureError as error:
        raise refused(f"yields a picture that cannot be read ({error})") from error
    if spec.image_size is not None:
        picture = ImageOps.fit(picture, (spec.image_size, spec.image_size))
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


def _array(value: Any, what: str, refused: Refusal) -> NDArray[Any]:
    torch = sys.modules.get("torch")  # not imported, where nobody has
    try:
        if torch is None or not isinstance(value, torch.Tensor):
            return np.asarray(value)
        tensor = value.detach().cpu()
        return np.asarray((tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy())
    except (
        Exception
    ) as error:  # of lists of several lengths, sparse tensors, and whatever says it is an array
        raise refused(f"yields {what} that are not arrays ({first_line(error)})") from error


def _with(here: Refused, remedy: str) -> Refusal:
    return lambda problem: here(problem, remedy)


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
