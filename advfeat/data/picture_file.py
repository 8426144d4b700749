"""Opens encoded pictures of formats that Pillow decodes by itself, of a size that fits into memory."""

import io

from PIL import Image

from advfeat.errors import first_line

FORMATS = ("BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""EPS is not among them: Pillow hands it to Ghostscript, which runs it as a program."""

_MOST_PIXELS = 1 << 26


class PictureError(ValueError):
    """Bytes that are no picture, or one that is too large."""


def open_picture(content: bytes) -> Image.Image:
    """Read a picture's header: mode, size and format; raises ``PictureError``."""
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except Exception as error:  # each format's code raises its own
        raise PictureError(first_line(error)) from error
    if opened.width * opened.height > _MOST_PIXELS:
        raise PictureError(f"{opened.width} by {opened.height} pixels are more than {_MOST_PIXELS:,}")
    return opened


def decode_picture(content: bytes, mode: str) -> Image.Image:
    """Decode a picture to Pillow's ``mode``; raises ``PictureError``."""
    opened = open_picture(content)
    try:
        return opened.convert(mode)
    except Exception as error:  # as above
        raise PictureError(first_line(error)) from error


def picture_suffixes() -> set[str]:
    """Return the suffixes of the formats' files, in lower case."""
    return {suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS}
