"""What was published, and how far its setting is a row's."""

from collections.abc import Sequence
from typing import Literal

from advfeat.report.numbers import percent
from advfeat.report.rows import Row

Part = Literal["data", "net"]

_PARTS: dict[Part, tuple[str, ...]] = {
    "data": ("data.source", "data.train_size", "other_data.source", "other_data.train_size"),
    "net": ("source.model", "weak_source.model", "robust_source.model", "target.model"),
}
_NOTHING = "as published, as far as that is known"


def published_line(row: Row) -> str | None:
    """Write the published figure with its setting and source; None without."""
    if row.published is None:
        return None
    figure = row.published
    return f"{percent(figure.test_accuracy)}, {figure.setting} ({figure.source})"


def nearest_published(rows: Sequence[Row]) -> Row | None:
    """Return the first row whose setting differs least from the published one; None without figures."""
    compared = [row for row in rows if row.published is not None]
    return min(compared, key=lambda row: len(row.published_differs), default=None)


def otherwise(row: Row) -> str:
    """Say in what the row's setting differs from the published one, as far as that is known."""
    parts = [name for name in _PARTS if _differs(row, name)]
    known = {field for fields in _PARTS.values() for field in fields}
    settings = [_name(field) for field in row.published_differs if field not in known]
    differing = list(dict.fromkeys([*parts, *settings]))
    return f"here: other {', '.join(differing)}" if differing else f"here: {_NOTHING}"


def published_note(rows: Sequence[Row]) -> str:
    """Say of which rows data set and net of the published figures are others than the run's."""
    compared = [row for row in rows if row.published is not None]
    if not compared:
        return "No figures were published for these."
    both = [row.recipe for row in compared if _differs(row, "data") and _differs(row, "net")]
    if len(both) == len(compared):
        return "Data set and net of the published figures differ from this run's."
    kinds = {
        "data set and net": both,
        "data set": [row.recipe for row in compared if _differs(row, "data") and not _differs(row, "net")],
        "net": [row.recipe for row in compared if _differs(row, "net") and not _differs(row, "data")],
    }
    told = [f"{kind}: {', '.join(recipes)}" for kind, recipes in kinds.items() if recipes]
    same = [row.recipe for row in compared if not _differs(row, "data") and not _differs(row, "net")]
    if same:
        told.append(f"neither, as far as they are known: {', '.join(same)}")
    return f"Differences of the published figures from this run: {'; '.join(told)}."


def published_label(rows: Sequence[Row]) -> str:
    """Name the published figures in a chart, with what is true of all of them."""
    compared = [row for row in rows if row.published is not None]
    parts = [part for part in _PARTS if compared and all(_differs(row, part) for row in compared)]
    return f"published (other {' and '.join(parts)})" if parts else "published"


def _differs(row: Row, part: Part) -> bool:
    return any(field in row.published_differs for field in _PARTS[part])


def _name(field: str) -> str:
    return field.rpartition(".")[2].replace("_", " ")
