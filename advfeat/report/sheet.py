"""A sheet of example images for other pages: originals above what was trained on, both with their labels."""

import base64
import io
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from advfeat.report.html import Example

_SIDE, _GAP, _LINE = 96, 6, 18


def sheet(examples: Sequence[Example]) -> str:
    """Return the data URI of a PNG with a column for each example, every pixel a square."""
    width, height = _SIDE + _GAP, 2 * (_SIDE + _LINE + _GAP)
    paper = Image.new("RGB", (width * len(examples) + _GAP, height), "white")
    pen, font = ImageDraw.Draw(paper), ImageFont.load_default(13)
    for column, example in enumerate(examples):
        left, top = _GAP + column * width, 0
        for uri, label in (
            (example.original, example.original_label),
            (example.adversarial, f"as {example.label}"),
        ):
            text = _fitting(label, font)
            pen.text((left, top), text, fill="black", font=font)
            small = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
            large = small.resize((_SIDE, _SIDE), Image.Resampling.NEAREST).convert("RGB")
            paper.paste(large, (left, top + _LINE))
            top += _SIDE + _LINE + _GAP
    file = io.BytesIO()
    paper.save(file, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _fitting(text: str, font: "ImageFont.FreeTypeFont | ImageFont.ImageFont") -> str:
    """Return what of a text fits above an image."""
    if font.getlength(text) <= _SIDE:
        return text
    kept = next((n for n in range(len(text), 0, -1) if font.getlength(f"{text[:n]}…") <= _SIDE), 1)
    return f"{text[:kept]}…"
