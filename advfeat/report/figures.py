"""Pictures for the report: accuracies with intervals as SVG, images as PNG, ready for inlining."""

import base64
import io
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from advfeat.report.published import published_label
from advfeat.report.rows import Row

# Okabe and Ito's colours, which colour-blind readers can tell apart.
_BAR, _POINT, _CHANCE, _PUBLISHED = "#0072B2", "#000000", "#D55E00", "#E69F00"

_SIDE = 96
"""Pixels a side of an image in a sheet."""


def accuracy_chart(rows: Sequence[Row]) -> str:
    """Draw target test accuracy by recipe as SVG: mean, 95 % interval, every seed, chance."""
    with matplotlib.rc_context({"svg.hashsalt": "advfeat", "font.size": 10}):
        figure = Figure(figsize=(8, 0.62 * len(rows) + 1.5), layout="constrained")
        axes = figure.add_subplot()
        places = np.arange(len(rows))
        means = np.array([100 * row.test_accuracy for row in rows])
        reach = np.array([[100 * bound for bound in row.ci95] for row in rows]).T
        errors = np.clip([means - reach[0], reach[1] - means], 0, None)
        axes.barh(places, means, xerr=errors, height=0.6, color=_BAR, alpha=0.75, capsize=4)
        for place, row in zip(places, rows, strict=True):
            points = 100 * np.array(row.test_accuracies)
            axes.plot(points, np.full(len(points), place), "o", ms=4, mfc="white", mec=_POINT)
            if row.published is not None:
                axes.plot(100 * row.published.test_accuracy, place, "D", ms=6, color=_PUBLISHED)
        chances = [100 * row.chance for row in rows]
        axes.vlines(chances, places - 0.5, places + 0.5, color=_CHANCE, ls="--", lw=1.5)
        axes.plot([], [], "o", mfc="white", mec=_POINT, label="one seed")
        axes.plot([], [], "D", color=_PUBLISHED, label=published_label(rows))
        axes.plot([], [], ls="--", color=_CHANCE, label="chance")
        axes.set(yticks=places, yticklabels=[row.recipe for row in rows], xlim=(0, 100))
        axes.set_xlabel("test accuracy on clean images under correct labels, %")
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
        drawing = io.StringIO()
        figure.savefig(drawing, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawing.getvalue()
    return svg[svg.index("<svg") :]


def picture(image: NDArray[np.float32]) -> str:
    """Encode one image (C, H, W) in [0, 1] as the data URI of a PNG, at its own size."""
    pixels = np.round(255 * np.clip(image, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
    return _png(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))


def magnified(perturbation: NDArray[np.float32]) -> tuple[NDArray[np.float32], float]:
    """Scale a perturbation to fill [0, 1] around grey; return it with the factor used."""
    largest = float(np.abs(perturbation).max())
    factor = 0.5 / largest if largest > 0 else 1.0
    return (0.5 + factor * perturbation).astype(np.float32), factor


def svg_picture(svg: str) -> str:
    """Encode a drawing as a data URI."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def tiled(pairs: Sequence[tuple[str, str]]) -> str:
    """Set pictures in two rows, the first of each pair above the second; return the data URI of a PNG."""
    gap = 4
    sheet = Image.new("RGB", ((_SIDE + gap) * len(pairs), 2 * (_SIDE + gap)), "white")
    for column, pair in enumerate(pairs):
        for row, uri in enumerate(pair):
            small = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
            large = small.resize((_SIDE, _SIDE), Image.Resampling.NEAREST)
            sheet.paste(large.convert("RGB"), (column * (_SIDE + gap), row * (_SIDE + gap)))
    return _png(sheet)


def _png(image: Image.Image) -> str:
    file = io.BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
