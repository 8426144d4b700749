"""Rows as Markdown: what was published, what was found, and what target models have of their sources."""

from collections.abc import Sequence

from advfeat.report.numbers import percent, points, share
from advfeat.report.rows import Row
from advfeat.report.verdicts import verdict_line

_RESULTS = (
    "recipe",
    "published",
    "test accuracy",
    "95 % interval",
    "chance",
    "difference",
    "seeds",
    "claim",
    "verdict",
    "core-hours",
)
_MEASURES = (
    "recipe",
    "agreement with the source (by chance)",
    "on its errors (by chance)",
    "CKA",
    "calibration error",
    "robust accuracy",
    "transfer rate",
)


def markdown_report(rows: Sequence[Row]) -> str:
    """Write one line a recipe in two tables, then sources of published figures, claims and verdicts."""
    sources = [
        f"- `{row.recipe}`: {percent(row.published.test_accuracy)}, {row.published.setting} "
        f"({row.published.source})."
        for row in rows
        if row.published is not None
    ]
    verdicts = [f"- `{row.recipe}`: {row.summary}. Claim: {verdict_line(row)}" for row in rows]
    return "\n".join(
        [
            *_table(_RESULTS, [_results(row) for row in rows]),
            "",
            *_table(_MEASURES, [_measures(row) for row in rows if row.calibration_error is not None]),
            *("", "Published:", "", *sources, "", "Claims:", "", *verdicts, ""),
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
        points(row.difference),
        ", ".join(map(str, row.seeds)),
        "teaches" if row.teaches else "does not teach",
        row.verdict,
        "–" if row.cost is None else f"{row.cost.core_hours:.3f}",
    ]


def _measures(row: Row) -> list[str]:
    return [
        f"`{row.recipe}`",
        f"{percent(row.source_agreement)} ({percent(row.source_agreement_by_chance)})",
        f"{percent(row.source_error_agreement)} ({percent(row.source_error_agreement_by_chance)})",
        share(row.source_similarity),
        percent(row.calibration_error),
        percent(row.robust_accuracy),
        percent(row.transfer_rate),
    ]
