"""Pictures become what a person sees, whatever mode, format and orientation they were stored in."""

import io
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageCms

from advfeat.data.decode import picture_form, picture_shape
from advfeat.pictures.picture_file import FORMATS, PictureError, decode_picture, picture_suffixes

MODES = (
    *("1", "L", "P", "LA", "PA", "La", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB", "HSV"),
    *("I", "I;16", "I;16L", "I;16B", "I;16N", "F"),
)
LOSSY = {"JPEG", "AVIF", "WEBP", "JPEG2000"}
SIDE = 16

RAMP = np.linspace(0, 255, SIDE * SIDE).round().astype(np.uint8).reshape(SIDE, SIDE)
ALPHA = np.where(np.arange(SIDE) < SIDE // 2, 255, 0).astype(np.uint8)[None].repeat(SIDE, 0)
COLOURS = np.stack([RAMP, 255 - RAMP, RAMP // 2], -1)


def picture(mode: str) -> Image.Image:
    """Draw a ramp that fills the mode's range; the right half of those with alpha is transparent."""
    if mode.startswith("I;16"):
        order = ">u2" if mode == "I;16B" else "<u2"
        values = (RAMP.astype(np.uint16) * 257).astype(order)
        return Image.frombytes("I;16L" if mode == "I;16N" else mode, (SIDE, SIDE), values.tobytes())
    if mode in ("I", "F"):
        return Image.fromarray(RAMP.astype(np.int32 if mode == "I" else np.float32) * 257)
    grey, coloured = Image.fromarray(RAMP), Image.fromarray(COLOURS)
    if mode in ("LA", "La"):
        with_alpha = Image.merge("LA", (grey, Image.fromarray(ALPHA)))
        return with_alpha.convert(mode)
    if mode in ("RGBA", "RGBa"):
        coloured.putalpha(Image.fromarray(ALPHA))
        return coloured.convert(mode)
    if mode == "PA":
        indexed = grey.convert("P")
        indexed.putalpha(Image.fromarray(ALPHA))
        return indexed
    if mode == "LAB":
        srgb, lab = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
        made = ImageCms.applyTransform(coloured, ImageCms.buildTransform(srgb, lab, "RGB", "LAB"))
        assert made is not None
        return made
    return (grey if mode in ("1", "L", "P") else coloured).convert(mode)


def expected(mode: str) -> NDArray[np.uint8]:
    """Return what a person sees of ``picture(mode)``, RGB."""
    grey = np.stack([RAMP] * 3, -1)
    if mode == "1":
        return np.asarray(Image.fromarray(RAMP).convert("1").convert("RGB"))
    seen = grey if mode[0] in "LPIF" and mode != "LAB" else COLOURS
    return np.where(ALPHA[..., None] == 255, seen, 255).astype(np.uint8) if mode[-1] in "Aa" else seen


def written(image: Image.Image, form: str, **options: Any) -> bytes | None:
    """Encode a picture; None if the format cannot hold its mode."""
    file = io.BytesIO()
    try:
        with warnings.catch_warnings(action="ignore"):
            image.save(file, form, **options)
    except (OSError, ValueError, KeyError):
        return None
    return file.getvalue()


def lossless(form: str) -> dict[str, Any]:
    """Return options by which a format keeps as much as it can."""
    if form in ("WEBP", "JPEG2000"):
        return {"lossless": True} if form == "WEBP" else {"irreversible": False}
    return {"quality": 100, "subsampling": "4:4:4"} if form in ("JPEG", "AVIF") else {}


# What a format itself loses, before anybody reads it: alpha, levels above 255, all but one bit of a palette.
LOSES = {
    *((form, mode) for form in ("GIF", "WEBP", "AVIF") for mode in MODES if mode[0] in "IF"),
    *((form, mode) for form in ("BMP", "DIB", "PPM") for mode in ("RGBA", "P")),
    *(("GIF", mode) for mode in ("LA", "RGBA", "RGB")),
    *((form, mode) for form in ("WEBP", "AVIF") for mode in ("HSV", "CMYK")),
}
PAIRS = [(form, mode) for form in FORMATS for mode in MODES if written(picture(mode), form) is not None]


def test_many_modes_and_formats_are_tried() -> None:
    assert {mode for _, mode in PAIRS} >= set(MODES) - {"La", "I;16N"}
    assert {form for form, _ in PAIRS} == set(FORMATS)


@pytest.mark.parametrize(("form", "mode"), sorted(set(PAIRS) - LOSES))
def test_every_mode_that_pillow_writes_is_seen_as_it_is_or_refused(form: str, mode: str) -> None:
    content = written(picture(mode), form, **lossless(form))
    assert content is not None
    if mode == "F" or (mode == "I" and form == "TIFF"):
        with pytest.raises(PictureError, match="whose range is unknown"):
            decode_picture(content, "RGB")
        return
    seen = np.asarray(decode_picture(content, "RGB")).astype(int)
    apart = np.abs(seen - expected(mode))
    if mode == "LAB":  # whose steps of 8 bits are coarse where colours are strong
        assert apart.max() <= 25
        assert apart.mean() <= 3
    else:
        assert apart.max() <= (12 if form in LOSSY else 3 if mode in ("YCbCr", "HSV") else 1)
    grey = np.asarray(decode_picture(content, "L")).astype(int)
    as_grey = np.asarray(Image.fromarray(seen.astype(np.uint8)).convert("L")).astype(int)
    assert np.abs(grey - as_grey).max() <= 1


@given(st.integers(1, 8), st.sampled_from(["JPEG", "PNG", "TIFF", "WEBP"]), st.booleans())
def test_pictures_are_upright(orientation: int, form: str, compressed: bool) -> None:
    shown = np.zeros((8, 16), np.uint8)
    shown[:, :8], shown[:4, 8:] = 200, 90
    stored = {
        1: shown,
        2: shown[:, ::-1],
        3: shown[::-1, ::-1],
        4: shown[::-1],
        5: shown.T,
        6: np.rot90(shown),
        7: shown[::-1, ::-1].T,
        8: np.rot90(shown, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"compression": "tiff_lzw"} if form == "TIFF" and compressed else lossless(form)
    content = written(Image.fromarray(np.ascontiguousarray(stored)), form, exif=exif, **options)
    assert content is not None
    seen = np.asarray(decode_picture(content, "L")).astype(int)
    assert seen.shape == shown.shape
    assert np.abs(seen - shown).max() <= 12
    assert picture_form(("a picture", content))[1] == (16, 8)
    assert picture_shape(("a picture", content), None)[1:] == (8, 16)


def test_damaged_exif_is_no_reason_to_refuse_a_picture() -> None:
    content = written(Image.fromarray(RAMP), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    assert content is not None
    assert decode_picture(content, "L").size == (SIDE, SIDE)


@given(st.integers(0, 65535), st.sampled_from(["PNG", "PPM", "TIFF", "JPEG2000"]))
def test_16_bits_are_scaled_by_their_range(level: int, form: str) -> None:
    content = written(Image.fromarray(np.full((8, 8), level, np.uint16)), form)
    assert content is not None
    assert decode_picture(content, "L").getpixel((3, 3)) == round(level / 257)


def tiff_with(image: Image.Image, tag: int, value: int, pixels: bytes = b"") -> bytes:
    """Encode an uncompressed TIFF and set one of its tags, and its first pixels, by hand."""
    content = bytearray(written(image, "TIFF") or b"")

    def place(of: int) -> int:
        return content.find(of.to_bytes(2, "little") + b"\x03\0" if of != 273 else b"\x11\x01\x04\0") + 8

    content[place(tag) : place(tag) + 2] = value.to_bytes(2, "little")
    start = int.from_bytes(content[place(273) : place(273) + 4], "little")
    content[start : start + len(pixels)] = pixels
    return bytes(content)


def test_tiff_of_12_bits_and_of_white_that_is_zero() -> None:
    levels = Image.fromarray(np.full((8, 8), 4095, np.uint16))
    assert decode_picture(tiff_with(levels, 258, 12, b"\xff" * 96), "L").getpixel((0, 0)) == 255
    assert decode_picture(tiff_with(levels, 262, 0), "L").getpixel((0, 0)) == 255 - round(4095 / 257)


def test_signed_values_of_8_bits_are_refused() -> None:
    content = written(Image.fromarray(RAMP), "TIFF", tiffinfo={339: 2})
    assert content is not None
    with pytest.raises(PictureError, match="signed"):
        decode_picture(content, "L")


def test_an_orientation_that_there_is_not_turns_nothing() -> None:
    exif = Image.Exif()
    exif[0x0112] = 9
    content = written(Image.new("L", (16, 8)), "PNG", exif=exif)
    assert content is not None
    assert picture_form(("a picture", content))[1] == (16, 8)
    assert decode_picture(content, "L").size == (16, 8)


@pytest.mark.parametrize(
    ("mode", "clear", "form"),
    [("P", 0, "PNG"), ("P", 0, "GIF"), ("L", 0, "PNG"), ("RGB", (0, 0, 0), "PNG"), ("I;16", 0, "PNG")],
)
def test_one_transparent_colour_shows_white(mode: str, clear: Any, form: str) -> None:
    pixels = np.zeros((8, 8), np.uint16 if mode == "I;16" else np.uint8)
    pixels[4:] = 65535 if mode == "I;16" else 200
    image = Image.fromarray(pixels)
    image = image if mode == "I;16" else image.convert(mode)
    content = written(image, form, transparency=clear)
    assert content is not None
    seen = np.asarray(decode_picture(content, "L")).astype(int)
    assert (seen[:4] == 255).all()
    assert np.abs(seen[4:] - (255 if mode == "I;16" else 200)).max() <= 1


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF", "AVIF"])
def test_animations_are_their_first_frame(form: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue", "lime")]
    content = written(frames[0], form, save_all=True, append_images=frames[1:])
    assert content is not None
    red, green, blue = np.asarray(decode_picture(content, "RGB"))[8, 8].astype(int)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize(("mode", "channels"), [("LA", 1), ("I;16", 1), ("1", 1), ("P", 3), ("RGBA", 3)])
def test_grey_pictures_have_one_channel(mode: str, channels: int) -> None:
    content = written(picture(mode), "PNG")
    assert content is not None
    assert picture_shape(("a picture", content), 8) == (channels, 8, 8)


def test_suffixes_are_those_of_formats_that_are_read() -> None:
    assert picture_suffixes() >= {".png", ".jpg", ".jpeg", ".webp", ".avif", ".tif", ".bmp", ".gif"}
    assert not picture_suffixes() & {".eps", ".pdf", ".npy", ".txt"}
