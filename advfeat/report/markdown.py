"""Rows as a Markdown table: what was published, what was found, and whether it bears the claim out."""

from collections.abc import Sequence

from advfeat.report.numbers import percent, points
from advfeat.report.rows import Row

_HEADS = (
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


def markdown_table(rows: Sequence[Row]) -> str:
    """Write one line a recipe, then the sources of the published figures and the reasons of the claims."""
    lines = ["| " + " | ".join(_HEADS) + " |", "|" + "---|" * len(_HEADS)]
    lines += ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    sources = [
        f"- `{row.recipe}`: {percent(row.published.test_accuracy)}, {row.published.setting} "
        f"({row.published.source})."
        for row in rows
        if row.published is not None
    ]
    reasons = [f"- `{row.recipe}`: {row.summary}. Claim: {row.claim}." for row in rows]
    return "\n".join([*lines, "", "Published:", "", *sources, "", "Recipes:", "", *reasons, ""])


def _cells(row: Row) -> list[str]:
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
