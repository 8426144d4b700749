"""The report as one HTML file without network access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from advfeat.report.controls import control
from advfeat.report.figures import accuracy_chart
from advfeat.report.numbers import interval_note, percent, points, share
from advfeat.report.published import otherwise, published_note
from advfeat.report.rows import Row, autoattack_balls, measure_names, robust_balls
from advfeat.report.verdicts import (
    claimed,
    judged,
    predicted,
    seen,
    verdict_label,
    verdict_parts,
    verdict_summary,
)


@dataclass(frozen=True)
class Example:
    """One image of a data set; pictures are data URIs, ``perturbation`` None if there is none."""

    original: str
    perturbation: str | None
    magnification: float
    adversarial: str
    original_label: str
    label: str


def render(
    experiment: Mapping[str, Any],
    rows: Sequence[Row],
    examples: Mapping[str, Sequence[Example]],
    planes: Mapping[str, Sequence[str]],
    lineages: Mapping[str, str],
    digests: Mapping[str, str],
    classes: Sequence[str],
) -> str:
    """Render rows, chart, images, pictures of the plane and lineages by recipe, parameters and digests.

    ``classes`` are the names of the data's classes, in the order of their numbers.
    """
    return (
        templates()
        .get_template("report.html")
        .render(
            experiment=experiment,
            rows=rows,
            balls=robust_balls(rows),
            measures=measure_names(rows),
            autoattack_balls=autoattack_balls(rows),
            classes=classes,
            chart=accuracy_chart(rows),
            examples=examples,
            planes=planes,
            lineages=lineages,
            digests=digests,
            parameters=yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True),
        )
    )


def results_table(rows: Sequence[Row]) -> str:
    """Render the report's table of results alone, as a piece of HTML with its style, for a notebook."""
    return templates().get_template("results_alone.html").render(rows=rows)


def templates() -> Environment:
    """Return the templates of reports; a name that they are not given is an error."""
    environment = Environment(
        loader=PackageLoader("advfeat.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["interval_note"] = interval_note
    environment.filters["points"] = points
    environment.filters["share"] = share
    environment.filters |= {"claimed": claimed, "predicted": predicted, "seen": seen, "control": control}
    environment.filters |= {"otherwise": otherwise, "published_note": published_note}
    environment.filters |= {"judged": judged, "verdict_parts": verdict_parts}
    environment.filters |= {"verdict_label": verdict_label, "verdict_summary": verdict_summary}
    return environment
