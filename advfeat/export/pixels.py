"""The precision of exported pixels, and pictures of them."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Precision = Literal["uint8", "float16", "float32"]
Pixels = NDArray[np.uint8] | NDArray[np.float16] | NDArray[np.float32]


def quantized(images: Pixels, precision: Precision) -> Pixels:
    """Return images (N, C, H, W) at a precision: uint8 in 0 to 255, floats in [0, 1].

    uint8 are the nearest of the 256 levels; what lies outside [0, 1] is clipped to it.
    """
    if images.dtype == precision:
        return images
    pixels = unquantized(images)
    if precision == "uint8":
        return np.asarray(np.rint(255 * pixels.clip(0, 1)), np.uint8)
    rounded: Pixels = pixels.astype(precision)
    return rounded


def unquantized(images: Pixels) -> NDArray[np.float32]:
    """Return images as float32 in [0, 1], as networks take them."""
    if images.dtype == np.uint8:
        return images.astype(np.float32) / np.float32(255)
    return np.asarray(images, np.float32)


def rows_columns_channels(image: Pixels) -> Pixels:
    """Return an image (C, H, W) as pictures are laid out: (H, W, C), or (H, W) where it is grey."""
    return image[0] if len(image) == 1 else image.transpose(1, 2, 0)


def png(image: Pixels) -> bytes:
    """Encode a uint8 image (C, H, W) of one or three channels as a PNG of the same pixels."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rows_columns_channels(image))).save(file, "PNG")
    return file.getvalue()
