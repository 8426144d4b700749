"""What encoded pictures become: arrays, all of one size and one number of channels."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import ImageOps

from advfeat.errors import InputError
from advfeat.pictures.picture_file import PictureError, decode_picture

PictureFile = tuple[str, bytes]
"""A name to call the picture by, and its content."""


@dataclass(frozen=True)
class Form:
    """Images of ``shape`` (C, H, W), grey if C is 1.

    ``image_size`` crops to the middle square and resizes; without it a picture of another size is refused.
    """

    shape: tuple[int, ...]
    image_size: int | None

    def image(self, file: PictureFile) -> NDArray[np.uint8]:
        """Decode a picture to uint8 (C, H, W); raises ``InputError``."""
        array = decoded(file, "L" if self.shape[0] == 1 else "RGB", self.image_size)
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


def decoded(file: PictureFile, mode: str, image_size: int | None) -> NDArray[np.uint8]:
    """Decode a picture to Pillow's ``mode``, uint8 (C, H, W); raises ``InputError``."""
    name, content = file
    with explained(name):
        picture = decode_picture(content, mode)
    if image_size is not None:
        picture = ImageOps.fit(picture, (image_size, image_size))
    return np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)


@contextmanager
def explained(name: str) -> Iterator[None]:
    """Raise ``InputError`` for a picture that cannot be read."""
    try:
        yield
    except PictureError as error:
        raise InputError(
            "data.source", name, f"is not a readable picture ({error})", "remove or replace it"
        ) from error
