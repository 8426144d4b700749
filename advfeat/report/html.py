"""The report as one HTML file without network access."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from advfeat.report.controls import control
from advfeat.report.lanes import lane_of
from advfeat.report.numbers import interval_note, percent, points, share
from advfeat.report.published import nearest_published, otherwise, published_label, published_note
from advfeat.report.rows import Row, autoattack_balls, measure_names, robust_balls
from advfeat.report.story import (
    main_row,
    measured,
    name_of,
    settings_said_once,
    what_was_done,
)
from advfeat.report.verdicts import (
    claimed,
    judged,
    predicted,
    predicted_of_places,
    reasons,
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
    planes: Mapping[str, Mapping[str, str]],
    lineages: Mapping[str, str],
    digests: Mapping[str, str],
    classes: Sequence[str],
) -> str:
    """Render rows, images, pictures of the plane and lineages by recipe, parameters and digests.

    ``planes`` are drawings (SVG) by their titles. ``classes`` are the names of the data's classes, in the
    order of their numbers.
    """
    main = main_row(rows)
    further = _shown_once({name: shown for name, shown in examples.items() if name != main.recipe})
    return (
        templates()
        .get_template("report.html")
        .render(
            name=name_of(experiment),
            experiment=experiment,
            rows=rows,
            caption=measured(rows),
            main=main,
            main_lane=lane_of(main),
            lanes=[lane_of(row) for row in rows],
            sections=_sections(rows, bool(further) or bool(planes.keys() - {main.recipe})),
            chances=list(dict.fromkeys(row.chance for row in rows)),
            balls=robust_balls(rows),
            measures=measure_names(rows),
            autoattack_balls=autoattack_balls(rows),
            classes=classes,
            examples=examples,
            further=further,
            planes=planes,
            lineages=lineages,
            digests=digests,
            parameters=yaml.safe_dump(dict(experiment), sort_keys=False, allow_unicode=True),
        )
    )


def _sections(rows: Sequence[Row], further: bool) -> dict[str, str]:
    """Return the titles of the sections that fold away, of those that have something to say, by their ids."""
    robust = "Robustness and calibration" if robust_balls(rows) else "Calibration"
    titles = {
        "further": ("Pictures of the other data sets", further),
        "claims": ("Claims and verdicts", True),
        "published": ("Published figures", any(row.published is not None for row in rows)),
        "seeds": ("Each seed", any(row.wilson_ci95 for row in rows)),
        "classes": ("Each class", any(row.class_accuracies for row in rows)),
        "agreement": ("Agreement with the source", any(row.source_agreement is not None for row in rows)),
        "robustness": (robust, any(row.calibration_error is not None for row in rows)),
        "measures": ("Own measures", bool(measure_names(rows))),
        "cost": ("Cost", any(row.cost is not None for row in rows)),
        "settings": ("Settings", True),
        "parameters": ("Parameters", True),
        "artifacts": ("Artifacts", True),
    }
    return {name: title for name, (title, there) in titles.items() if there}


def _shown_once(examples: Mapping[str, Sequence[Example]]) -> dict[str, Sequence[Example]]:
    """Take together the recipes whose data sets look the same, as those of ``d_det`` and ``transfer`` do."""
    alike: dict[tuple[Example, ...], list[str]] = {}
    for recipe, shown in examples.items():
        alike.setdefault(tuple(shown), []).append(recipe)
    return {", ".join(recipes): shown for shown, recipes in alike.items()}


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
    environment.filters |= {
        "claimed": claimed,
        "predicted": predicted,
        "predicted_of_places": predicted_of_places,
        "seen": seen,
        "control": control,
    }
    environment.filters |= {
        "nearest_published": nearest_published,
        "otherwise": otherwise,
        "published_note": published_note,
    }
    environment.filters |= {"judged": judged, "verdict_parts": verdict_parts}
    environment.filters |= {"verdict_label": verdict_label, "verdict_summary": verdict_summary}
    environment.filters["reasons"] = reasons
    environment.filters |= {
        "what_was_done": what_was_done,
        "along": _along,
        "published_label": published_label,
    }
    environment.filters["settings_said_once"] = settings_said_once
    return environment


def _along(fraction: float) -> str:
    """Say where on an axis from 0 to 1 a figure lies; an interval that reaches out of it is cut there."""
    return f"{100 * min(max(fraction, 0), 1):.2f}%"
