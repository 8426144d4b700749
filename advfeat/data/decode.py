"""Encoded picture files -> uint8 arrays, all of one size and one number of channels."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from advfeat.data.images import LabelledImages, pieces_of
from advfeat.pictures.form import Form, PictureFile, decoded, explained
from advfeat.pictures.many import many_decoded
from advfeat.pictures.picture_file import READING, is_grey, open_picture, upright_size


def picture_shape(file: PictureFile, image_size: int | None) -> tuple[int, ...]:
    """Return the shape (C, H, W) that a picture has once decoded, C 1 if it is grey and 3 if not.

    Raises ``InputError``.
    """
    return decoded(file, "L" if _has_no_colours(file) else "RGB", image_size).shape


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
    with explained(name):
        return is_grey(open_picture(content))


def picture_form(file: PictureFile) -> tuple[str, tuple[int, int]]:
    """Return a picture's mode, and its width and height once upright, from its header alone.

    Raises ``InputError``.
    """
    name, content = file
    with explained(name):
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

    @property
    def form(self) -> Form:
        """What the pictures become."""
        return Form(self.shape, self.image_size)

    def pieces(self, rows: NDArray[np.int64], size: int) -> Iterator[LabelledImages]:
        """Read and decode the chosen rows, ``size`` of them at a time."""
        decoded_images = many_decoded(self.read(rows), len(rows), self.form)
        for piece in pieces_of(rows, size):
            images = np.empty((len(piece), *self.shape), np.uint8)
            for place, image in enumerate(islice(decoded_images, len(piece))):
                images[place] = image
            yield LabelledImages(images, self.labels[piece])
