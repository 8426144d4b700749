"""Encoded picture files -> one uint8 array, all of one size and one number of channels."""

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from advfeat.errors import InputError

_GREY_MODES = {"1", "L", "I", "F", "I;16"}


def decode_images(files: Iterable[tuple[str, bytes]], image_size: int | None) -> NDArray[np.uint8]:
    """Decode picture files, given as (name, content), into uint8 (N, C, H, W).

    C is 1 if the first picture is grey, else 3. ``image_size`` crops to the middle square and
    resizes; without it all pictures must have the first one's size. Raises ``InputError``.
    """
    decoded: list[NDArray[np.uint8]] = []
    mode = "RGB"
    for name, content in files:
        try:
            opened = Image.open(io.BytesIO(content))
            if not decoded:
                mode = "L" if opened.mode in _GREY_MODES else "RGB"
            picture = opened.convert(mode)
        except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
            raise InputError(
                "data.source", name, f"is no readable picture ({error})", "remove or mend it"
            ) from error
        if image_size is not None:
            picture = ImageOps.fit(picture, (image_size, image_size))
        array = np.atleast_3d(np.asarray(picture)).transpose(2, 0, 1)
        if decoded and array.shape != decoded[0].shape:
            raise InputError(
                "data.source",
                name,
                f"has size {array.shape[1:]}, the first one {decoded[0].shape[1:]}",
                "set data.image_size to bring all to one size",
            )
        decoded.append(array)
    return np.stack(decoded)
