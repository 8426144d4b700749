"""Pictures of learning from adversarial examples in two dimensions, as SVG."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from advfeat.methods.two_dimensional import SIDE, TwoDimensional
from advfeat.report.drawing import svg_figure
from advfeat.report.intervals import mean_interval

# Okabe and Ito's blue, orange and vermilion; marks differ in shape too.
_CLASSES = (("#0072B2", "o"), ("#E69F00", "^"))
_REGIONS = ListedColormap(["#CCE3F0", "#FAECCC"])
_TITLE = 9
"""Points: with larger ones, titles of panels beside each other touch."""
_MEAN, _CHANCE, _EDGE, _WAY, _SEED = "#0072B2", "#D55E00", "#000000", "#999999", "#777777"


def plane_figure(picture: TwoDimensional) -> str:
    """Draw what one seed gave in three panels, after the figure of Wallace (2019).

    (a) the points in their eps-balls on the source network's decision regions; (b) the adversarial
    points, under the flipped labels, on which the target network is trained, each with the way it came;
    (c) the target's decision regions. The source's boundary is drawn again, dashed, in (b) and (c).
    """
    reached = picture.reached
    with svg_figure(10.5, 4.1) as (figure, drawing):
        data, adversarial, target = figure.subplots(1, 3)
        _regions(data, picture.source_classes)
        _balls(data, picture.points, picture.labels, picture.eps)
        _points(data, picture.points, picture.labels)
        data.set_title(
            f"(a) {len(reached)} points, their balls (eps {picture.eps:g}),\nand the source network",
            size=_TITLE,
        )

        _boundary(adversarial, picture.source_classes)
        ways = np.stack([picture.points, picture.adversarial])[:, reached]
        adversarial.plot(*ways.transpose(2, 0, 1), color=_WAY, lw=0.8, zorder=1)
        _points(adversarial, picture.adversarial[reached], picture.flipped_labels[reached])
        adversarial.set_title(
            f"(b) the training data: {np.count_nonzero(reached)} adversarial points\n"
            "under the flipped labels",
            size=_TITLE,
        )

        _regions(target, picture.target_classes)
        _boundary(target, picture.source_classes)
        target.set_title(
            f"(c) a new network, from (b) alone: they agree on\n{100 * picture.agreement:.0f} %, "
            f"{round(picture.points_right * len(reached))} points of (a) are right",
            size=_TITLE,
        )
        for axes in (data, adversarial, target):
            axes.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
        _legend(figure, adversarial)
    return drawing[0]


def agreement_chart(pictures: Sequence[TwoDimensional]) -> str:
    """Draw how much of the square old and new network agree on, over at least two planes.

    Mean, 95 % interval (Student's t) and every seed, for the target and for its control.
    """
    rows = {
        "adversarial points,\nflipped labels": [picture.agreement for picture in pictures],
        "the same points unmoved,\nflipped labels": [picture.control_agreement for picture in pictures],
    }
    with svg_figure(6.5, 2.1) as (figure, drawing):
        axes = figure.add_subplot()
        for place, shares in enumerate(rows.values()):
            mean, bounds = float(np.mean(shares)), mean_interval(shares)
            axes.plot(100 * np.array(shares), np.full(len(shares), place), "o", ms=4, mfc="none", mec=_SEED)
            reach = 100 * np.array([[mean - bounds[0]], [bounds[1] - mean]])
            axes.errorbar(100 * mean, place + 0.28, xerr=reach, fmt="D", ms=5, color=_MEAN, capsize=4, lw=2)
        axes.axvline(50, color=_CHANCE, ls="--", lw=1.5)
        axes.plot([], [], "D", ms=5, color=_MEAN, label="mean, 95 % over planes")
        axes.plot([], [], "o", ms=4, mfc="none", mec=_SEED, label="one plane")
        axes.plot([], [], color=_CHANCE, ls="--", label="chance")
        axes.set(xlim=(0, 100), ylim=(1.5, -0.4), yticks=range(len(rows)), yticklabels=list(rows))
        axes.set_xlabel("share of the square on which source and new network agree, %")
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside upper left", ncols=3, frameon=False, fontsize=8)
    return drawing[0]


def _regions(axes: Any, classes: NDArray[np.int64]) -> None:
    axes.contourf(*_to_the_edges(classes), levels=(-0.5, 0.5, 1.5), cmap=_REGIONS, zorder=0)


def _boundary(axes: Any, classes: NDArray[np.int64]) -> None:
    if classes.min() < classes.max():
        axes.contour(*_to_the_edges(classes), levels=(0.5,), colors=_EDGE, linestyles="--", linewidths=1.2)


def _to_the_edges(classes: NDArray[np.int64]) -> tuple[NDArray[np.float64], ...]:
    """Return x, y and classes at the cells' middles and, repeated, at the square's edges."""
    along = np.concatenate([[0], (np.arange(SIDE) + 0.5) / SIDE, [1]])
    return along, along, np.pad(classes, 1, mode="edge").astype(np.float64)


def _balls(axes: Any, points: NDArray[np.float32], labels: NDArray[np.int64], eps: float) -> None:
    for point, label in zip(points, labels, strict=True):
        colour, _ = _CLASSES[label]
        axes.add_patch(Rectangle(point - eps, 2 * eps, 2 * eps, fill=False, ec=colour, lw=0.8, zorder=1))


def _points(axes: Any, points: NDArray[np.float32], labels: NDArray[np.int64]) -> None:
    for label, (colour, mark) in enumerate(_CLASSES):
        chosen = points[labels == label].T
        axes.scatter(*chosen, s=34, c=colour, marker=mark, ec=_EDGE, lw=0.7, zorder=3, clip_on=False)


def _legend(figure: Figure, axes: Any) -> None:
    for label, (colour, mark) in enumerate(_CLASSES):
        axes.scatter([], [], s=34, c=colour, marker=mark, ec=_EDGE, lw=0.7, label=f"class {label}")
    axes.plot([], [], color=_EDGE, ls="--", lw=1.2, label="the source's boundary")
    axes.plot([], [], color=_WAY, lw=0.8, label="perturbation")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
