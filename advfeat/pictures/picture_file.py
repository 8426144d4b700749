"""Opens encoded pictures of formats that Pillow decodes by itself, and decodes them as a person sees them.

What that means stands in ``decode_picture``: all that reads pictures reads them by it.
"""

import io
from functools import cache

import numpy as np
from PIL import ExifTags, Image, ImageCms, UnidentifiedImageError

from advfeat.errors import first_line

FORMATS = ("AVIF", "BMP", "DIB", "GIF", "JPEG", "JPEG2000", "PCX", "PNG", "PPM", "TGA", "TIFF", "WEBP")
"""EPS is not among them: Pillow hands it to Ghostscript, which runs it as a program."""

READING = 2
"""Part of the identity of pictures; to be raised when the same files are decoded to other pixels."""

_MOST_PIXELS = 1 << 26
_GREY_MODES = {"1", "L", "La", "LA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F"}
_BACKGROUND = "white"
"""What shows through a picture: what a page and a browser put behind it."""

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings a picture upright, by its EXIF orientation."""

_BITS_PER_SAMPLE, _PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_SAMPLE_FORMAT, _SIGNED = 339, 2


class PictureError(ValueError):
    """Bytes that are no picture, or one that is too large or whose values have no known range."""


def open_picture(content: bytes) -> Image.Image:
    """Read a picture's header: mode, size and format; raises ``PictureError``."""
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError as error:  # which names the file object that it was given
        problem = f"of no form that is read: it begins with {content[:12]!r}" if content else "it is empty"
        raise PictureError(problem) from error
    except Exception as error:  # each format's code raises its own
        raise PictureError(first_line(error)) from error
    if opened.width * opened.height > _MOST_PIXELS:
        raise PictureError(f"{opened.width} by {opened.height} pixels are more than {_MOST_PIXELS:,}")
    _most(opened)
    return opened


def decode_picture(content: bytes, mode: str) -> Image.Image:
    """Decode a picture to Pillow's ``mode``, RGB or L, as a person sees it.

    It is turned upright as its EXIF orientation says. 16-bit grey levels are scaled by their range; values
    of 32 bits, signed or floats have none that the file tells, and are refused. What is transparent shows
    white. Of an animation, or of several pages, it is the first one. Colour profiles are not applied.
    Raises ``PictureError``.
    """
    return as_seen(open_picture(content), mode)


def as_seen(picture: Image.Image, mode: str) -> Image.Image:
    """Return an opened picture as ``decode_picture`` does; raises ``PictureError``."""
    try:
        picture.load()
        return _upright(_opaque(_eight_bit(picture)).convert(mode), _orientation(picture))
    except PictureError:
        raise
    except Exception as error:  # as above
        raise PictureError(first_line(error)) from error


def is_grey(picture: Image.Image) -> bool:
    """Tell whether a picture has no colours, by its mode alone."""
    return picture.mode in _GREY_MODES


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Return width and height of a picture that is not decoded yet, as they will be."""
    width, height = picture.size
    lies = 5 <= _orientation(picture) <= 8 and picture.format != "TIFF"  # where Pillow has turned it already
    return (height, width) if lies else (width, height)


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of the formats' files, in lower case."""
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in FORMATS)


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF says nothing; every viewer shows the picture all the same
        return 1


def _upright(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _most(picture: Image.Image) -> int | None:
    """Return the largest value that a pixel of more than 8 bits can have; None if it has 8.

    Raises ``PictureError`` if nothing tells it.
    """
    if picture.mode.startswith("I;16"):
        return (1 << _tiff_tag(picture, _BITS_PER_SAMPLE, 16)) - 1
    if picture.mode == "I" and picture.format in ("PNG", "PPM"):
        return 65535  # which PNG holds, and to which Pillow scales PPM
    if picture.mode in ("I", "F") or _tiff_tag(picture, _SAMPLE_FORMAT, 1) == _SIGNED:
        kind = "floats" if picture.mode == "F" else "signed or 32-bit integers"
        raise PictureError(f"its values are {kind}, whose range is unknown: write it with 8 or 16 bits")
    return None


def _eight_bit(picture: Image.Image) -> Image.Image:
    """Return a picture of more bits scaled to 8, with alpha if one of its values means transparent."""
    most = _most(picture)
    if most is None:
        return picture
    values = np.asarray(picture).astype(np.uint32)
    levels = ((2 * 255 * values + most) // (2 * most)).astype(np.uint8)
    if _tiff_tag(picture, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO:
        levels = 255 - levels
    scaled = Image.fromarray(levels)
    if (clear := picture.info.get("transparency")) is not None:
        scaled.putalpha(Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8)))
    return scaled


def _tiff_tag(picture: Image.Image, tag: int, default: int) -> int:
    """Return the number under a tag of a TIFF, of several the first; the default if there is none."""
    value = getattr(picture, "tag_v2", {}).get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)


def _opaque(picture: Image.Image) -> Image.Image:
    """Return an 8-bit picture without alpha, of a mode that converts to RGB and L."""
    if picture.mode == "LAB":
        to_rgb = ImageCms.buildTransform(
            ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), "LAB", "RGB"
        )
        coloured = ImageCms.applyTransform(picture, to_rgb)
        assert coloured is not None
        return coloured
    if picture.mode == "La":
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        return picture if is_grey(picture) else picture.convert("RGB")
    alpha = picture.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", alpha.size, _BACKGROUND), alpha).convert("RGB")
