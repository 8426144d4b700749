"""One way to draw: a matplotlib figure that becomes SVG, the same bytes for the same figures."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
from matplotlib.figure import Figure


@contextmanager
def svg_figure(width: float, height: float) -> Iterator[tuple[Figure, list[str]]]:
    """Give a figure (inches) and a list that holds its SVG afterwards."""
    result: list[str] = []
    with matplotlib.rc_context({"svg.hashsalt": "advfeat", "font.size": 9}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, result
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    svg = file.getvalue()
    result.append(svg[svg.index("<svg") :])
