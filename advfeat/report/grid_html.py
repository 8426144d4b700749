"""The report of a grid as one HTML file without network access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from advfeat.report.grid_figures import axis_chart, confusion_matrix, heat_map, loss_chart, transfer_chart
from advfeat.report.grid_story import (
    heading,
    highest,
    interval_of_place,
    lanes,
    main_axis,
    not_as_claimed,
    place_name,
    said_once,
    what_was_varied,
)
from advfeat.report.groups import groups, varying_axes
from advfeat.report.html import Example, templates
from advfeat.report.numbers import correlation
from advfeat.report.rows import Cost, Row, autoattack_balls, measure_names, robust_balls
from advfeat.report.transfer import TransferMatrix

_MOST_HEAT_MAPS = 6
_MOST_MATRICES = 6
_MOST_LANES = 24
"""Bars of a figure; more are drawn as a curve."""
_MOST_ROWS = 500
"""Rows, and artifacts, that a page lists; the files beside it have all."""

_MEASURED = "Test accuracy on untouched, correctly labelled images"
_MEASURED_IN_THE_PLANE = "Share of the square on which the network agrees with the source's"


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
    """Counts by true and predicted class, and the names of the classes, by what they are counted over."""
    examples: Mapping[str, Sequence[Example]]
    """Images at a few places by their names, those of the highest accuracy first."""
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
        confusions={over: confusion_matrix(*counted) for over, counted in content.confusions.items()},
    )


def render_grid(content: GridContent, charts: GridCharts) -> str:
    """Render the main result, its figure, pictures and table, and what folds away below them."""
    environment = templates()
    environment.filters |= {"heading": heading, "correlation": correlation}
    environment.filters["interval_of_place"] = interval_of_place
    rows, places, varying = content.rows, groups(content.rows), varying_axes(content.rows)
    bars = lanes(rows)
    return environment.get_template("grid.html").render(
        title=content.title,
        rows=rows,
        listed=rows[:_MOST_ROWS],
        missing=content.missing,
        what=what_was_varied(rows),
        said_once=said_once(rows),
        groups=places,
        best=highest(places),
        best_name=place_name(highest(places).axes, varying),
        others=not_as_claimed(places, varying),
        lanes=bars if len(bars) <= _MOST_LANES else (),
        over_axis=main_axis(rows),
        measured=_MEASURED_IN_THE_PLANE if content.planes else _MEASURED,
        varying=varying,
        chances=list(dict.fromkeys(row.chance for row in rows)),
        balls=robust_balls(rows),
        autoattack_balls=autoattack_balls(rows),
        measures=measure_names(rows),
        charts=charts,
        transfers=content.transfers,
        examples=content.examples,
        planes=content.planes,
        sections=_sections(content, charts),
        total=content.total,
        parameters=yaml.safe_dump(dict(content.experiment), sort_keys=False, allow_unicode=True),
        lineages=content.lineages,
        digests=dict(list(content.digests.items())[:_MOST_ROWS]),
        artifacts=len(content.digests),
    )


def _sections(content: GridContent, charts: GridCharts) -> dict[str, str]:
    """Return the titles of the sections that fold away, of those that have something to say, by their ids."""
    first = content.rows[0]
    robust = "Robustness and calibration" if robust_balls(content.rows) else "Calibration"
    titles = {
        "axes": ("Accuracy along each axis", bool(charts.by_axis)),
        "further": ("Pictures of other places", len(content.examples) + len(content.planes) > 1),
        "claim": ("The claim and its verdicts", True),
        "agreement": ("Agreement with the source", first.source_agreement is not None),
        "robustness": (robust, first.calibration_error is not None),
        "measures": ("Own measures", bool(measure_names(content.rows))),
        "curves": ("Learning curves", charts.losses is not None),
        "confusions": ("What the target models confuse", bool(charts.confusions)),
        "cost": ("Cost", True),
        "rows": ("Every row, and the command that computes it alone", True),
        "parameters": ("Parameters of the first row", True),
        "artifacts": ("Artifacts", True),
    }
    return {name: title for name, (title, there) in titles.items() if there}
