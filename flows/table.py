"""The rows of a run as a table for the terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from advfeat.report.groups import groups, varying_axes
from advfeat.report.html import percent
from advfeat.report.rows import Row

_NUMBERS = (
    "images used",
    "wrong labels",
    "attack success",
    "test accuracy",
    "95 % interval",
    "chance",
    "published *",
)


def print_grid(title: str, rows: Sequence[Row]) -> None:
    """Print one line a place of the grid, over its seeds, on standard output."""
    varying = varying_axes(rows)
    table = Table(title=title)
    for axis in (*varying, "seeds", "attack success", "source accuracy", "test accuracy", "95 % interval"):
        table.add_column(axis.replace("_", " "), justify="right")
    for group in groups(rows):
        low, high = group.ci95
        table.add_row(
            *(str(group.axes[axis]) for axis in varying),
            str(len(group.rows)),
            percent(group.average("attack_success")),
            percent(group.average("source_accuracy")),
            percent(group.mean),
            f"{percent(low)} to {percent(high)}",
        )
    console = Console()
    console = Console(width=max(console.width, 120))
    console.print(table)
    console.print(
        f"Chance: {percent(rows[0].chance)}. 95 % intervals: Student's t over seeds, Wilson over test images "
        "where there is one seed.",
        highlight=False,
    )


def print_rows(rows: Sequence[Row]) -> None:
    """Print one line a recipe on standard output."""
    table = Table(title="target models, tested on clean images under correct labels")
    table.add_column("recipe")
    for heading in _NUMBERS:
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            row.recipe,
            f"{row.train_size:,}",
            percent(row.wrong_label_share),
            percent(row.attack_success),
            percent(row.test_accuracy),
            f"{percent(row.ci95[0])} to {percent(row.ci95[1])}",
            percent(row.chance),
            percent(row.published.test_accuracy if row.published else None),
        )
    console = Console()
    console = Console(width=max(console.width, 120))
    console.print(table)
    over = "Student's t over seeds" if rows[0].ci95_over == "seeds" else "Wilson over test images"
    seeds = ", ".join(map(str, rows[0].seeds))
    console.print(f"95 % intervals: {over}. Seeds: {seeds}.", highlight=False)
    for row in rows:
        if row.published is not None:
            console.print(
                f"* {row.recipe}: {percent(row.published.test_accuracy)}, {row.published.setting} "
                f"({row.published.source}).",
                highlight=False,
            )
    console.print("* Data set and net of the published figures differ from this run's.", highlight=False)
