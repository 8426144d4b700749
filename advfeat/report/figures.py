"""Images of a data set as pictures, ready for inlining."""

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_SIDE = 96
"""Pixels a side of an image in a sheet."""
_LARGEST = 112
"""Pixels a side of a picture in a report; of larger images every second pixel is shown, every third …"""
_SMALL = 64
"""Pixels a side up to which a picture is kept to the last bit: of larger ones that would take megabytes."""
_QUALITY = 80


def picture(image: NDArray[np.float32]) -> str:
    """Encode one image (C, H, W) in [0, 1] as a data URI, at its own size or thinned out to a report's."""
    image = thinned(image)
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    drawn = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return _png(drawn) if max(drawn.size) <= _SMALL else _uri(drawn, "WEBP", quality=_QUALITY)


def thinned(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Leave out rows and columns of an image (C, H, W) that is too large to be shown.

    Averages would be smaller too, but a perturbation is what neighbours do not share.
    """
    step = -(-max(image.shape[1:]) // _LARGEST)
    return image[:, ::step, ::step]


def magnified(perturbation: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Scale a perturbation to fill [0, 1] around grey; return it with the factor used."""
    largest = float(np.abs(perturbation).max())
    factor = 0.5 / largest if largest > 0 else 1.0
    return (0.5 + factor * perturbation).astype(np.float32), factor


def svg_picture(svg: str) -> str:
    """Encode a drawing as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _png(image: Image.Image) -> str:
    return _uri(image, "PNG")


def _uri(image: Image.Image, kind: str, **settings: int) -> str:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(file.getvalue()).decode()
