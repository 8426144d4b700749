"""Charts of a grid as SVG: accuracy along axes, heat maps, learning curves, confusion matrices."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import matplotlib
import numpy as np
from numpy.typing import NDArray

from advfeat.report.drawing import svg_figure
from advfeat.report.groups import over_other_axes
from advfeat.report.numbers import correlation, shortened
from advfeat.report.rows import Row
from advfeat.report.transfer import TransferMatrix

# Okabe and Ito's blue and vermilion, and cividis, all of which colour-blind readers can tell apart.
_MEAN, _CHANCE, _COLOURS = "#0072B2", "#D55E00", "cividis"
_MARKERS = "osD^v<>Ph"
_MOST_CURVES = 12
_LONG_NAME = 50


def heading(axis: str) -> str:
    """Write an axis as a reader would, with its unit."""
    units = {"eps": "eps, pixels in [0, 1]"}
    return units.get(axis, axis.replace("_", " "))


def axis_chart(rows: Sequence[Row], axis: str) -> str:
    """Draw test accuracy against one axis: the mean over all others, with its interval over seeds."""
    values = _values(rows, axis)
    along = _places(values)
    with svg_figure(6.5, 3.4) as (figure, drawing):
        axes = figure.add_subplot()
        for group in _lines(rows, axis):
            at = [along[row.axes[axis]] for row in group]
            axes.plot(at, [100 * row.test_accuracy for row in group], color="#999999", lw=0.6, alpha=0.5)
        means = [over_other_axes(rows, axis, value) for value in values]
        heights = np.array([100 * mean for mean, _ in means])
        bounds = np.array([[100 * bound for bound in ci or (mean, mean)] for mean, ci in means]).T
        reach = np.clip([heights - bounds[0], bounds[1] - heights], 0, None)
        axes.errorbar(list(along.values()), heights, yerr=reach, color=_MEAN, marker="o", capsize=4, lw=2)
        axes.axhline(100 * rows[0].chance, color=_CHANCE, ls="--", lw=1.5)
        axes.set(xlabel=heading(axis), ylabel="test accuracy, %", ylim=(0, 100))
        axes.set_xticks(list(along.values()), [shortened(value) for value in values])
        axes.plot([], [], color=_MEAN, marker="o", label="mean over other axes, 95 % over seeds")
        axes.plot([], [], color="#999999", lw=0.6, label="one seed at one place")
        axes.plot([], [], color=_CHANCE, ls="--", label="chance")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return drawing[0]


def heat_map(rows: Sequence[Row], first: str, second: str) -> str:
    """Draw mean test accuracy for two axes, over all others and over seeds."""
    left, right = _values(rows, first), _values(rows, second)
    cells = np.full((len(left), len(right)), np.nan)
    for i, j in np.ndindex(cells.shape):
        here = [r.test_accuracy for r in rows if (r.axes[first], r.axes[second]) == (left[i], right[j])]
        cells[i, j] = 100 * np.mean(here) if here else np.nan
    with svg_figure(1.6 + 0.9 * len(right), 1.4 + 0.5 * len(left)) as (figure, drawing):
        axes = figure.add_subplot()
        _tiles(axes, cells, "{:.1f}")
        axes.set_yticks(range(len(left)), [shortened(value) for value in left])
        axes.set_xticks(range(len(right)), [shortened(value) for value in right])
        axes.set(ylabel=heading(first), xlabel=heading(second), title="test accuracy, %")
    return drawing[0]


def transfer_chart(matrix: TransferMatrix) -> str:
    """Draw transfer rates, accuracies by the same architectures, and one against the other."""
    sources, targets = len(matrix.sources), len(matrix.targets)
    wide = 1.6 + 0.9 * targets
    with svg_figure(2 * wide + 4.2, max(3.2, 1.6 + 0.5 * sources)) as (figure, drawing):
        rates, accuracies, scatter = figure.subplots(1, 3, width_ratios=[wide, wide, 4.2])
        for axes, cells, title in (
            (rates, matrix.rates, "transfer rate, %"),
            (accuracies, matrix.accuracies, "accuracy of learning from them, %"),
        ):
            _tiles(axes, 100 * cells, "{:.1f}")
            axes.set_yticks(range(sources), matrix.sources)
            axes.set_xticks(range(targets), matrix.targets, rotation=45, ha="right")
            axes.set(ylabel="made with (source)", xlabel="given to (target)", title=title)
        for source, marker, xs, ys in zip(
            matrix.sources, cycle(_MARKERS), matrix.accuracies, matrix.rates, strict=False
        ):
            scatter.plot(100 * xs, 100 * ys, marker, mfc="none", mec=_MEAN, label=f"made with {source}")
            for target, x, y in zip(matrix.targets, 100 * xs, 100 * ys, strict=True):
                if not np.isnan(x):
                    scatter.annotate(target, (x, y), (4, 4), textcoords="offset points", fontsize=7)
        scatter.set(xlim=(0, 100), ylim=(0, 100), xlabel="accuracy of learning from them, %")
        scatter.set(ylabel="transfer rate, %", title=f"all pairs: {correlation(matrix.over_all)}")
        scatter.spines[["top", "right"]].set_visible(False)
        scatter.legend(frameon=False, fontsize=7)
    return drawing[0]


def loss_chart(curves: Mapping[str, Sequence[float]]) -> str:
    """Draw the training loss of each epoch; of many curves an even choice."""
    chosen = list(curves.items())
    if len(chosen) > _MOST_CURVES:
        spread = np.linspace(0, len(chosen) - 1, _MOST_CURVES).round().astype(int)
        chosen = [chosen[number] for number in spread]
    colours = matplotlib.colormaps[_COLOURS](np.linspace(0, 0.95, len(chosen)))
    with svg_figure(6.5, 3.4 + 0.1 * len(chosen)) as (figure, drawing):
        axes = figure.add_subplot()
        for (name, losses), colour in zip(chosen, colours, strict=True):
            axes.plot(range(1, len(losses) + 1), losses, color=colour, marker=".", label=name)
        axes.set(xlabel="epoch", ylabel="mean training loss")
        axes.spines[["top", "right"]].set_visible(False)
        columns = 3 if max(map(len, curves)) < _LONG_NAME else 1
        figure.legend(loc="outside upper left", ncols=columns, frameon=False, fontsize=7)
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
        axes.set(xlabel="predicted class", ylabel="true class", title="share of the true class, %")
    return drawing[0]


def _tiles(axes: Any, percentages: NDArray[np.float64], form: str) -> None:
    axes.imshow(percentages, cmap=_COLOURS, vmin=0, vmax=100)
    for (i, j), value in np.ndenumerate(percentages):
        if not np.isnan(value):
            colour = "black" if value > 55 else "white"
            axes.text(j, i, form.format(value), ha="center", va="center", color=colour, fontsize=7)


def _values(rows: Sequence[Row], axis: str) -> list[Any]:
    values = list(dict.fromkeys(row.axes[axis] for row in rows))
    return sorted(values) if all(isinstance(value, (int, float)) for value in values) else values


def _places(values: Sequence[Any]) -> dict[Any, float]:
    """Return where values stand along an axis: numbers where they belong, names side by side."""
    if all(isinstance(value, (int, float)) for value in values):
        return {value: float(value) for value in values}
    return {value: float(number) for number, value in enumerate(values)}


def _lines(rows: Sequence[Row], axis: str) -> list[list[Row]]:
    """Return the rows that differ on this axis alone, in its order."""
    lines: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        rest = tuple(value for name, value in row.axes.items() if name != axis)
        lines.setdefault(rest, []).append(row)
    order = {value: number for number, value in enumerate(_values(rows, axis))}
    return [sorted(line, key=lambda row: order[row.axes[axis]]) for line in lines.values()]
