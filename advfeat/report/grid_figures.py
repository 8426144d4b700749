"""Charts of a grid as SVG: accuracy along axes, heat maps, learning curves, confusion matrices."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any, Literal

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from advfeat.report.drawing import svg_figure
from advfeat.report.grid_story import heading
from advfeat.report.groups import axis_values, number_of, over_other_axes, varying_axes
from advfeat.report.numbers import correlation, percent, shortened
from advfeat.report.rows import Row
from advfeat.report.transfer import TransferMatrix

# Okabe and Ito's blue and vermilion, which colour-blind readers can tell apart.
_MEAN, _CHANCE = "#0072B2", "#B34700"
_ONE_SEED: dict[str, Any] = {"color": "#767676", "lw": 0.6, "marker": "o", "ms": 3, "mfc": "white"}
_SHADES = LinearSegmentedColormap.from_list("shades", ["#f2f7fc", "#7fb2dc", "#08306b"])
_CURVES = ("#0072B2", "#B34700", "#00694d", "#882255", "#332288", "#4d4d4d")
_STYLES = ("-", "--")
_MARKERS = "osD^v<>Ph"
_MOST_CURVES = len(_CURVES) * len(_STYLES)
_LONG_NAME = 30
_MOST_LABELS = 12
_MOST_POINTS = 300
"""Of seeds and places: more are drawn as pixels, so that a page does not grow with its grid."""
_CLOSEST = 0.05
"""Of the range of an axis: values that lie closer would have their labels touch."""
_MOST_TILES = 16
"""A side, of tiles that hold a number that can be read."""


def axis_chart(rows: Sequence[Row], axis: str) -> str:
    """Draw test accuracy against one axis: the mean over all others, with its interval over seeds."""
    values = axis_values(rows, axis)
    along = _places(values)
    mean = "mean" if varying_axes(rows) == [axis] else "mean over other axes"
    with svg_figure(5.2, 3.4) as (figure, drawing):
        axes = figure.add_subplot()
        for line in _lines(rows, axis, values):
            of_line = [along[row.axes[axis]] for row in line], [100 * row.test_accuracy for row in line]
            axes.plot(*of_line, **_ONE_SEED, alpha=0.7, rasterized=len(rows) > _MOST_POINTS)
        at_value = defaultdict(list)
        for row in rows:
            at_value[row.axes[axis]].append(row)
        means = [over_other_axes(at_value[value], axis, value) for value in values]
        heights = np.array([100 * mean for mean, _ in means])
        bounds = np.array([[100 * bound for bound in ci or (mean, mean)] for mean, ci in means]).T
        reach = np.clip([heights - bounds[0], bounds[1] - heights], 0, None)
        measured = any(ci is not None for _, ci in means)
        at = list(along.values())
        if measured and len(at) > _MOST_TILES:
            axes.fill_between(at, *bounds, color=_MEAN, alpha=0.2, lw=0)
            axes.plot(at, heights, color=_MEAN, lw=2)
        else:
            axes.errorbar(at, heights, reach if measured else None, color=_MEAN, marker="o", capsize=4, lw=2)
        axes.axhline(100 * rows[0].chance, color=_CHANCE, ls="--", lw=1.5)
        if len(values) <= _MOST_LABELS:
            for place in zip(at, heights, strict=True):
                value = percent(float(place[1]) / 100)
                label = axes.annotate(value, place, (6, 5), textcoords="offset points", color=_MEAN)
                label.set(weight="bold", path_effects=[withStroke(linewidth=3, foreground="white")])
        axes.set(xlabel=heading(axis), ylabel="test accuracy, %", ylim=(0, 109), yticks=range(0, 101, 20))
        axes.margins(x=0.1)
        _name_ticks(axes.set_xticks, at, values, along_x=True)
        reaches = ", 95 % interval over seeds" if measured else ""
        axes.plot([], [], color=_MEAN, marker="o", label=f"{mean}{reaches}")
        axes.plot([], [], **_ONE_SEED, label="one seed at one place")
        axes.plot([], [], color=_CHANCE, ls="--", label=f"chance, {percent(rows[0].chance)}")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=8)
    return drawing[0]


def heat_map(rows: Sequence[Row], first: str, second: str) -> str:
    """Draw mean test accuracy for two axes, over all others and over seeds."""
    left, right = axis_values(rows, first), axis_values(rows, second)
    cells = np.full((len(left), len(right)), np.nan)
    for i, j in np.ndindex(cells.shape):
        here = [r.test_accuracy for r in rows if (r.axes[first], r.axes[second]) == (left[i], right[j])]
        cells[i, j] = 100 * np.mean(here) if here else np.nan
    wide, high = (min(len(values), _MOST_TILES) for values in (right, left))
    with svg_figure(2.6 + 0.6 * wide, 1.6 + 0.4 * high) as (figure, drawing):
        axes = figure.add_subplot()
        _tiles(axes, cells, "{:.1f}")
        _name_ticks(axes.set_yticks, range(len(left)), left)
        _name_ticks(axes.set_xticks, range(len(right)), right, along_x=True)
        axes.set(ylabel=heading(first), xlabel=heading(second))
        axes.set_title("mean test accuracy, %", loc="left", fontsize=9)
    return drawing[0]


def transfer_chart(matrix: TransferMatrix) -> str:
    """Draw transfer rates, accuracies by the same architectures, and one against the other."""
    sources, targets = len(matrix.sources), len(matrix.targets)
    wide = 1.6 + 0.9 * targets
    with svg_figure(2 * wide + 4.8, max(3.4, 1.8 + 0.5 * sources)) as (figure, drawing):
        rates, accuracies, scatter = figure.subplots(1, 3, width_ratios=[wide, wide, 4.2])
        for axes, cells, title in (
            (rates, matrix.rates, "transfer rate, %"),
            (accuracies, matrix.accuracies, "learned from them, %"),
        ):
            _tiles(axes, 100 * cells, "{:.1f}")
            axes.set_yticks(range(sources), matrix.sources)
            axes.set_xticks(range(targets), matrix.targets, rotation=45, ha="right")
            axes.set(ylabel="made with (source)", xlabel="given to (target)")
            axes.set_title(title, loc="left", fontsize=9)
        for source, marker, xs, ys in zip(
            matrix.sources, cycle(_MARKERS), matrix.accuracies, matrix.rates, strict=False
        ):
            scatter.plot(100 * xs, 100 * ys, marker, mfc="none", mec=_MEAN, label=f"made with {source}")
            for target, x, y in zip(matrix.targets, 100 * xs, 100 * ys, strict=True):
                if not np.isnan(x):
                    scatter.annotate(target, (x, y), (4, 4), textcoords="offset points", fontsize=7)
        most = [min(100, max(10, 120 * np.nanmax(found))) for found in (matrix.accuracies, matrix.rates)]
        scatter.set(xlim=(0, most[0]), ylim=(0, most[1]), xlabel="accuracy of learning from them, %")
        scatter.set(ylabel="transfer rate, %")
        scatter.set_title(f"all pairs: {correlation(matrix.over_all)}", loc="left", fontsize=9)
        scatter.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower right", ncols=3, frameon=False, fontsize=7)
    return drawing[0]


def loss_chart(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw the training loss of each epoch; of many curves an even choice."""
    chosen = list(curves.items())
    if len(chosen) > _MOST_CURVES:
        spread = np.linspace(0, len(chosen) - 1, _MOST_CURVES).round().astype(int)
        chosen = [chosen[number] for number in spread]
    columns = 2 if max(map(len, curves)) < _LONG_NAME else 1
    with svg_figure(6.5, 3.2 + 0.2 * len(chosen) / columns) as (figure, drawing):
        axes = figure.add_subplot()
        for number, (name, losses) in enumerate(chosen):
            look: dict[str, Any] = {
                "color": _CURVES[number % len(_CURVES)],
                "ls": _STYLES[number // len(_CURVES)],
            }
            axes.plot(range(1, len(losses) + 1), losses, marker=".", label=name or None, **look)
        axes.set(xlabel="epoch", ylabel="mean training loss")
        axes.spines[["top", "right"]].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if any(curves):
            figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=8)
    return drawing[0]


def confusion_matrix(counts: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Draw how often each class (rows) was taken for each (columns), as shares of the class."""
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    side = 2.0 + 0.42 * len(classes)
    with svg_figure(side, side) as (figure, drawing):
        axes = figure.add_subplot()
        _tiles(axes, shares, "{:.0f}")
        axes.set_xticks(range(len(classes)), classes, rotation=90)
        axes.set_yticks(range(len(classes)), classes)
        axes.set(xlabel="predicted class", ylabel="true class")
        axes.set_title("share of the true class, %", loc="left", fontsize=9)
    return drawing[0]


def _tiles(axes: Any, percentages: NDArray[np.float64], form: str) -> None:
    """Draw tiles, each with its number in black or white, whichever is read better, where there are few."""
    axes.imshow(percentages, cmap=_SHADES, vmin=0, vmax=100, aspect="auto")
    if max(percentages.shape) > _MOST_TILES:
        axes.figure.colorbar(axes.images[0], ax=axes, label="%")
        return
    for (i, j), value in np.ndenumerate(percentages):
        if not np.isnan(value):
            _, colour = tile_colours(float(value))
            axes.text(j, i, form.format(value), ha="center", va="center", color=colour, fontsize=8)


def tile_colours(percentage: float) -> tuple[tuple[float, float, float], Literal["black", "white"]]:
    """Return the colour of a tile, red, green and blue in [0, 1], and that of the number on it."""
    red, green, blue, _ = _SHADES(percentage / 100)
    return (red, green, blue), "black" if _luminance((red, green, blue)) > _MIDDLE else "white"


_MIDDLE = 0.179
"""Relative luminance of which black and white have the same contrast, 4.6."""


def _luminance(colour: Sequence[float]) -> float:
    """Return the relative luminance of a colour, as WCAG 2 defines it."""
    parts = np.asarray(colour, np.float64)
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _name_ticks(
    set_ticks: Any, places: Sequence[float], values: Sequence[Any], along_x: bool = False
) -> None:
    """Name values on an axis: of many an even choice, long names and close ones at a slant."""
    count = min(len(values), _MOST_TILES)
    chosen = np.unique(np.linspace(0, len(values) - 1, count).round().astype(int))
    names = [shortened(values[number]) for number in chosen]
    slanted = along_x and sum(map(len, names)) > 5 * _MOST_LABELS
    style = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    set_ticks([places[number] for number in chosen], names, **style)


def _places(values: Sequence[Any]) -> dict[Any, float]:
    """Return where values stand along an axis: numbers where they belong, names and close ones in a row."""
    sizes = [size for value in values if (size := number_of(value)) is not None]
    if len(sizes) == len(values) > 1:
        gaps = np.diff(sizes)
        if gaps.min() >= _CLOSEST * (sizes[-1] - sizes[0]) > 0:
            return dict(zip(values, sizes, strict=True))
    return {value: float(number) for number, value in enumerate(values)}


def _lines(rows: Sequence[Row], axis: str, values: Sequence[Any]) -> list[list[Row]]:
    """Return the rows that differ on this axis alone, in its order."""
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        rest = tuple(value for name, value in row.axes.items() if name != axis)
        lines.setdefault(rest, []).append(row)
    order = {value: number for number, value in enumerate(values)}
    return [sorted(line, key=lambda row: order[row.axes[axis]]) for line in lines.values()]
