"""What a report says first: what was done, and the main result."""

from collections.abc import Mapping, Sequence
from typing import Any

from advfeat.planning import load_experiment, preset_names
from advfeat.report.numbers import shortened
from advfeat.report.rows import Row


def main_row(rows: Sequence[Row]) -> Row:
    """Return the first row that is said to teach by errors; without one, the first that is no control."""
    controls = {"clean", *(row.control for row in rows)}
    by_errors = [row for row in rows if row.teaches and row.wrong_label_share != 0 and row.recipe != "clean"]
    return next(iter([*by_errors, *(row for row in rows if row.recipe not in controls), *rows]))


def name_of(experiment: Mapping[str, Any]) -> str:
    """Return what an experiment is called; other images than those of the preset of its name are named."""
    name, source = str(experiment["name"]), str(experiment["data"]["source"])
    if name not in preset_names() or load_experiment(name).data.source == source:
        return name
    return f"{shortened(source)}, preset {name}"


def what_was_done(rows: Sequence[Row], source: str) -> str:
    """Say in a sentence what the rows are; ``source`` is what the experiment calls its images."""
    number, seeds = len(rows), len(rows[0].seeds)
    each = "this data set" if number == 1 else f"each of these {number} data sets"
    over = "one seed" if seeds == 1 else f"{seeds} seeds"
    if in_the_plane(rows):
        tested = "compared over the whole square with the network that made its points"
    else:
        tested = f"tested on the untouched, correctly labelled test images of {shortened(source)}"
    return f"A new network learned only from {each} and was {tested}: {over}."


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
