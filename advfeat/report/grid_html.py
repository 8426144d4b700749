"""The report of a grid as one HTML file without network access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from advfeat.report.grid_figures import (
    axis_chart,
    confusion_matrix,
    heading,
    heat_map,
    loss_chart,
    transfer_chart,
)
from advfeat.report.groups import groups, varying_axes
from advfeat.report.html import Example, templates
from advfeat.report.numbers import correlation
from advfeat.report.rows import Cost, Row, autoattack_balls, robust_balls
from advfeat.report.transfer import TransferMatrix

_MOST_HEAT_MAPS = 6
_MOST_MATRICES = 6


@dataclass(frozen=True)
class GridContent:
    """What a grid's report shows, read from the store."""

    title: str
    rows: Sequence[Row]
    missing: int
    losses: Mapping[str, Sequence[float]]
    """Mean loss of each epoch of one target model at each place of the grid."""
    transfers: Sequence[TransferMatrix]
    """Of recipes that measure transfer, one a place on the axes that are no architecture."""
    confusions: Mapping[str, tuple[NDArray[np.int64], Sequence[str]]]
    """Counts by true and predicted class, and the names of the classes, for each data set."""
    examples: Mapping[str, Sequence[Example]]
    planes: Mapping[str, str]
    """Pictures of the plane as SVG, where that is what is learned."""
    total: Cost
    experiment: Mapping[str, Any]
    lineages: Mapping[str, str]
    """Drawings of what a data set was made from."""
    digests: Mapping[str, str]


@dataclass(frozen=True)
class GridCharts:
    """The charts of a grid as SVG."""

    by_axis: Mapping[str, str]
    by_pair: Mapping[tuple[str, str], str]
    transfers: Mapping[str, str]
    """Transfer matrices by the titles of their places."""
    losses: str | None
    confusions: Mapping[str, str]


def draw(content: GridContent) -> GridCharts:
    """Draw all charts of a grid."""
    varying = varying_axes(content.rows)
    pairs = list(combinations(varying, 2))[:_MOST_HEAT_MAPS]
    return GridCharts(
        by_axis={axis: axis_chart(content.rows, axis) for axis in varying},
        by_pair={pair: heat_map(content.rows, *pair) for pair in pairs},
        transfers={m.title: transfer_chart(m) for m in content.transfers[:_MOST_MATRICES]},
        losses=loss_chart(content.losses) if content.losses else None,
        confusions={data: confusion_matrix(*counted) for data, counted in content.confusions.items()},
    )


def render_grid(content: GridContent, charts: GridCharts) -> str:
    """Render table, charts, example images, cost, parameters, lineages, digests and commands."""
    environment = templates()
    environment.filters["heading"] = heading
    environment.filters["correlation"] = correlation
    return environment.get_template("grid.html").render(
        title=content.title,
        rows=content.rows,
        missing=content.missing,
        groups=groups(content.rows),
        varying=varying_axes(content.rows),
        balls=robust_balls(content.rows),
        autoattack_balls=autoattack_balls(content.rows),
        charts=charts,
        transfers=content.transfers,
        examples=content.examples,
        planes=content.planes,
        total=content.total,
        parameters=yaml.safe_dump(dict(content.experiment), sort_keys=False, allow_unicode=True),
        lineages=content.lineages,
        digests=content.digests,
    )
