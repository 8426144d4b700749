"""What a report says first: what was done, the main result, and its figure in words."""

from collections.abc import Sequence

from advfeat.report.numbers import interval, percent, shortened
from advfeat.report.rows import Row

_OVER = {"seeds": "seeds", "test images": "test images of one seed", "planes": "planes of one seed"}


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
    if all(row.target_model is None and not row.wilson_ci95 for row in rows):
        tested = "compared with the network that its points were made with, all over the square"
    else:
        tested = f"tested on the untouched, correctly labelled test images of {shortened(source)}"
    return f"A fresh network learned from {each} alone and was {tested}: {over}."


def interval_in_words(row: Row) -> str:
    """Write the interval of the test accuracy, and over what it is."""
    over = f"{len(row.seeds)} seeds" if row.ci95_over == "seeds" else _OVER[row.ci95_over]
    return f"95 % interval {interval(row.ci95)}, over {over}"


def bar_in_words(row: Row) -> str:
    """Say what the figure shows of a row, for those who do not see it."""
    seeds = ", ".join(map(percent, row.test_accuracies))
    parts = [f"{row.recipe}: {percent(row.test_accuracy)}", interval_in_words(row), f"each seed {seeds}"]
    if row.control_accuracy is not None:
        parts.append(f"control {percent(row.control_accuracy)}")
    if row.published is not None:
        parts.append(f"published {percent(row.published.test_accuracy)}")
    return "; ".join([*parts, f"chance {percent(row.chance)}"])


def settings_said_once(rows: Sequence[Row]) -> dict[str, list[str]]:
    """Return the recipes that were computed at each setting, in the order of the rows."""
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.setting or "–", []).append(row.recipe)
    return found
