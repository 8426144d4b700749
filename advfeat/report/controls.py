"""The control that a recipe's claim is held against, out of the same report."""

from collections.abc import Sequence

from advfeat.report.numbers import percent
from advfeat.report.rows import Row


def with_controls(rows: Sequence[Row]) -> list[Row]:
    """Fill in what the recipes reach that are controls of others; a row without one there stays as it is."""
    reached = {row.recipe: row.test_accuracy for row in rows}
    return [
        row
        if row.control is None or row.control not in reached
        else row.model_copy(update={"control_accuracy": reached[row.control]})
        for row in rows
    ]


def control(row: Row) -> str:
    """Write what the control reaches, and which it is; a dash where the report has none."""
    if row.control_accuracy is None:
        return percent(None)
    return f"{percent(row.control_accuracy)} {row.control or 'unperturbed'}"
