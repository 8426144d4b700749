"""What a report says first: what was done, and the main result."""

from collections.abc import Sequence

from advfeat.report.numbers import shortened
from advfeat.report.rows import Row


def main_row(rows: Sequence[Row]) -> Row:
    """Return the first row that is said to teach by errors; without one, the first that is no control."""
    controls = {"clean", *(row.control for row in rows)}
    by_errors = [row for row in rows if row.teaches and row.wrong_label_share != 0 and row.recipe != "clean"]
    return next(iter([*by_errors, *(row for row in rows if row.recipe not in controls), *rows]))


def what_was_done(rows: Sequence[Row], source: str) -> str:
    """Say in a sentence what the rows are; ``source`` is what the experiment calls its images."""
    number, seeds = len(rows), len(rows[0].seeds)
    each = "this data set" if number == 1 else f"each of these {number} data sets"
    over = "one seed" if seeds == 1 else f"{seeds} seeds"
    if in_the_plane(rows):
        tested = "compared with the network that its points were made with, all over the square"
    else:
        tested = f"tested on the untouched, correctly labelled test images of {shortened(source)}"
    return f"A fresh network learned from {each} alone and was {tested}: {over}."


def in_the_plane(rows: Sequence[Row]) -> bool:
    """Tell whether all rows are of points in the plane, which are tested on no images."""
    return all(not row.wilson_ci95 for row in rows)


def measured(rows: Sequence[Row]) -> str:
    """Say what the figure shows."""
    if in_the_plane(rows):
        return "Share of the square on which source and target network agree, %"
    return "Test accuracy on untouched test images, %"


def settings_said_once(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the recipes that were computed at each setting, in the order of the rows."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.setting or "–", []).append(row.recipe)
    return found
