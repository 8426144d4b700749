"""Encoded picture files -> uint8 arrays, all of one size and one number of channels."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from advfeat.data.images import LabelledImages, pieces_of
from advfeat.data.picture_file import (
    READING,
    PictureError,
    decode_picture,
    is_grey,
    open_picture,
    upright_size,
)
from advfeat.errors import InputError

PictureFile = tuple[str, bytes]
"""A name to call the picture by, and its content."""


def picture_shape(file: PictureFile, image_size: int | None) -> tuple[int, ...]:
    """Return the shape (C, H, W) that a picture has once decoded, C 1 if it is grey and 3 if not.

    Raises ``InputError``.
    """
    return _decoded(file, "L" if _has_no_colours(file) else "RGB", image_size).shape


@dataclass(frozen=True)
class Decoding:
    """How the pictures of a source become images of one shape (C, H, W): C is 1 if all are grey."""

    shape: tuple[int, ...]
    first_is_grey: bool

    @property
    def identity(self) -> dict[str, int]:
        """The part of a source's identity that says what becomes of its files."""
        channels = {"channels": self.shape[0]} if self.first_is_grey and self.shape[0] > 1 else {}
        return {"reading": READING, **channels}  # without channels the first one tells it


def decoding(files: Iterable[PictureFile], image_size: int | None) -> Decoding:
    """Look at pictures, of which there is one, until one has colours; the first one's size is that of all.

    Headers are read, but of the first one. Raises ``InputError``.
    """
    looked_at = iter(files)
    channels, *size = picture_shape(next(looked_at), image_size)
    coloured = channels > 1 or any(not _has_no_colours(file) for file in looked_at)
    return Decoding((3 if coloured else 1, *size), channels == 1)


def _has_no_colours(file: PictureFile) -> bool:
    name, content = file
    with _explained(name):
        return is_grey(open_picture(content))


def picture_form(file: PictureFile) -> tuple[str, tuple[int, int]]:
    """Return a picture's mode, and its width and height once upright, from its header alone.

    Raises ``InputError``.
    """
    name, content = file
    with _explained(name):
        opened = open_picture(content)
    return opened.mode, upright_size(opened)


@dataclass(frozen=True)
class Pictures:
    """Labelled picture files, decoded a piece at a time to images of ``shape`` (C, H, W).

    ``read`` yields those of the rows that it is given, which are ascending. ``image_size`` crops to the
    middle square and resizes; without it a picture of another size raises ``InputError``.
    """

    labels: NDArray[np.int64]
    read: Callable[[NDArray[np.int64]], Iterator[PictureFile]]
    shape: tuple[int, ...]
    image_size: int | None

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator[LabelledImages]:
        """Read and decode the chosen rows, ``size`` of them at a time."""
        files = self.read(rows)
        for piece in pieces_of(rows, size):
            images = np.empty((len(piece), *self.shape), np.uint8)
            for place, file in enumerate(islice(files, len(piece))):
                images[place] = self._image(file)
            yield LabelledImages(images, self.labels[piece])

    def _image(self, file: PictureFile) -> NDArray[np.uint8]:
        array = _decoded(file, "L" if self.shape[0] == 1 else "RGB", self.image_size)
        self.check_size(file[0], array.shape[1:])
        return array

    def check_size(self, name: str, size: tuple[int, ...]) -> None:
        """Refuse a picture whose height and width are not those of all; raises ``InputError``."""
        if self.image_size is None and size != self.shape[1:]:
            raise InputError(
                "data.source",
                name,
                f"has size {size}, the first one {self.shape[1:]}",
                "set data.image_size to bring all to one size",
            )


def _decoded(file: PictureFile, mode: str, image_size: int | None) -> NDArray[np.uint8]:
    name, content = file
    with _explained(name):
        picture = decode_picture(content, mode)
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size))
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


@contextmanager
def _explained(name: str) -> Iterator[None]:
    try:
        yield
    except PictureError as error:
        raise InputError(
            "data.source", name, f"is not a readable picture ({error})", "remove or replace it"
        ) from error
