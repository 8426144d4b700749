"""Rows as Markdown: what was published, what was found, and what target models have of their sources."""

from collections.abc import Sequence

from advfeat.report.controls import control
from advfeat.report.numbers import percent, points, share
from advfeat.report.published import otherwise, published_line, published_note
from advfeat.report.rows import Row, autoattack_balls, measure_names, robust_balls
from advfeat.report.verdicts import verdict_label, verdict_line, verdict_summary

_RESULTS = (
    "recipe",
    "published",
    "test accuracy",
    "95 % interval",
    "chance",
    "control",
    "difference",
    "seeds",
    "claim",
    "verdict",
    "core-hours",
    "setting",
)
_MEASURES = (
    "recipe",
    "agreement with the source (by chance)",
    "on its errors (n; by chance)",
    "CKA",
    "calibration error",
)


def markdown_report(rows: Sequence[Row]) -> str:
    """Write one line a recipe in tables, then sources of published figures, claims and verdicts."""
    sources = [
        f"- `{row.recipe}`: {line}; {otherwise(row)}."
        for row in rows
        if (line := published_line(row)) is not None
    ]
    verdicts = [f"- `{row.recipe}`: {row.summary}. Claim: {verdict_line(row)}" for row in rows]
    return "\n".join(
        [
            f"Verdicts: {verdict_summary(rows)}.",
            "",
            *_table(_RESULTS, [_results(row) for row in rows]),
            "",
            *_measures([row for row in rows if row.calibration_error is not None]),
            "",
            *_seeds([row for row in rows if len(row.wilson_ci95) > 1]),
            *("Published:", "", *sources, "", published_note(rows), "", "Claims:", "", *verdicts, ""),
        ]
    )


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *lines)]


def _results(row: Row) -> list[str]:
    published = row.published.test_accuracy if row.published else None
    return [
        f"`{row.recipe}`",
        percent(published),
        percent(row.test_accuracy),
        f"{percent(row.ci95[0])} to {percent(row.ci95[1])}",
        percent(row.chance),
        control(row),
        points(row.difference),
        ", ".join(map(str, row.seeds)),
        "teaches" if row.teaches else "does not teach",
        verdict_label(row),
        "–" if row.cost is None else f"{row.cost.core_hours:.3f}",
        row.setting or "–",
    ]


def _measures(rows: Sequence[Row]) -> list[str]:
    balls = robust_balls(rows)
    attacked = autoattack_balls(rows)
    heads = [
        *_MEASURES,
        *(f"robust at {ball}" for ball in balls),
        *(f"AutoAttack at {ball}" for ball in attacked),
        *measure_names(rows),
        "transfer rate",
    ]
    lines = [
        [
            *_agreement(row),
            *(percent(row.robust_accuracies.get(ball)) for ball in balls),
            *(percent(row.autoattack_accuracies.get(ball)) for ball in attacked),
            *(f"{row.measures[name]:.4g}" if name in row.measures else "–" for name in measure_names(rows)),
            percent(row.transfer_rate),
        ]
        for row in rows
    ]
    return _table(heads, lines)


def _agreement(row: Row) -> list[str]:
    errors = "" if row.source_errors is None else f"{row.source_errors:,.0f}; "
    return [
        f"`{row.recipe}`",
        f"{percent(row.source_agreement)} ({percent(row.source_agreement_by_chance)})",
        f"{percent(row.source_error_agreement)} ({errors}{percent(row.source_error_agreement_by_chance)})",
        share(row.source_similarity),
        percent(row.calibration_error),
    ]


def _seeds(rows: Sequence[Row]) -> list[str]:
    """Write each seed's accuracy with Wilson's interval over its test images; nothing of a single seed."""
    if not rows:
        return []
    cells = [
        [
            f"`{row.recipe}`",
            *(
                f"{percent(accuracy)} [{percent(low)}, {percent(high)}]"
                for accuracy, (low, high) in zip(row.test_accuracies, row.wilson_ci95, strict=True)
            ),
        ]
        for row in rows
    ]
    heads = ["recipe", *(f"seed {seed}" for seed in rows[0].seeds)]
    return ["Each seed, with Wilson's interval over its test images:", "", *_table(heads, cells), ""]
