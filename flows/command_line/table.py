"""The rows of a run as a table for the terminal."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from advfeat.catalogue.descriptions import Description
from advfeat.catalogue.run_descriptions import RunDescription
from advfeat.recipes import Recipe
from advfeat.report.controls import control
from advfeat.report.groups import Group, groups, varying_axes
from advfeat.report.numbers import correlation, interval_note, percent, points
from advfeat.report.published import published_line, published_note
from advfeat.report.rows import Row
from advfeat.report.transfer import transfer_matrices
from advfeat.report.verdicts import claimed, correlation_lines, predicted, verdict_line, verdict_parts

if TYPE_CHECKING:
    from advfeat.report.comparison import Comparison

_NUMBERS = (
    "images used",
    "wrong labels",
    "attack success",
    "test accuracy",
    "95 % interval",
    "chance",
    "published *",
)
_REPRODUCTION_WIDTH = 150
_WIDTH_WITH_SETTINGS = 190
_STORE_WIDTH = 170


def print_grid(title: str, rows: Sequence[Row]) -> None:
    """Print one line a place of the grid, over its seeds, on standard output."""
    varying = varying_axes(rows)
    transfer = ("transfer rate",) if rows[0].transfer_rate is not None else ()
    robust = ("robust accuracy", "95 % interval") if rows[0].robust_ci95 is not None else ()
    table = Table(title=title)
    results = (
        "seeds",
        "attack success",
        "source accuracy",
        *transfer,
        "test accuracy",
        "95 % interval",
        *robust,
        "verdict",
    )
    for heading in (*varying, *results):
        table.add_column(heading.replace("_", " "), justify="right")
    for group in groups(rows):
        low, high = group.ci95
        table.add_row(
            *(str(group.axes[axis]) for axis in varying),
            str(len(group.rows)),
            percent(group.average("attack_success")),
            percent(group.average("source_accuracy")),
            *(percent(group.average("transfer_rate")) for _ in transfer),
            percent(group.mean),
            f"{percent(low)} to {percent(high)}",
            *_robustness(group),
            "\n".join([group.verdict, *verdict_parts(group)]),
        )
    console = _wide_console()
    console.print(table)
    console.print(f"Claim: {claimed(rows[0])}. Predicted: {predicted(rows[0])}.", highlight=False)
    console.print(
        f"Chance: {percent(rows[0].chance)}. 95 % intervals: Student's t over seeds; where there is one, "
        f"{interval_note(row.ci95_over for row in rows)}.",
        highlight=False,
    )
    for matrix in transfer_matrices(rows):
        place = f" at {matrix.title}" if matrix.title else ""
        found = correlation(matrix.over_all)
        console.print(f"Transfer rate against test accuracy{place}: {found}.", highlight=False)
        for line in correlation_lines(matrix):
            console.print(line, highlight=False)


def _robustness(group: Group) -> tuple[str, ...]:
    """Return the cells of a place's robust accuracy, none where it was not measured."""
    if group.robust_ci95 is None:
        return ()
    low, high = group.robust_ci95
    return percent(group.average("robust_accuracy")), f"{percent(low)} to {percent(high)}"


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
    _wide_console().print(table)
    _print_notes(rows)


def _print_notes(rows: Sequence[Row]) -> None:
    console = _wide_console()
    over = interval_note(row.ci95_over for row in rows)
    seeds = ", ".join(map(str, rows[0].seeds))
    console.print(f"95 % intervals: {over}. Seeds: {seeds}.", highlight=False)
    for row in rows:
        if (line := published_line(row)) is not None:
            console.print(f"* {row.recipe}: {line}.", highlight=False)
    console.print(f"* {published_note(rows)}", highlight=False)
    for row in rows:
        if row.robust is not None:  # its verdict is on two parts, which no cell holds
            console.print(f"{row.recipe}: {verdict_line(row)}", highlight=False)


def print_reproduction(rows: Sequence[Row]) -> None:
    """Print one line a recipe, published beside found, on standard output."""
    table = Table(title="published, found, and whether it bears the claim out")
    table.add_column("recipe", no_wrap=True)
    for heading in ("published *", "test\naccuracy", "95 % interval", "chance", "control", "difference"):
        table.add_column(heading, justify="right", no_wrap=True)
    for heading in ("claim", "verdict"):
        table.add_column(heading, no_wrap=True)
    table.add_column("core-\nhours", justify="right")
    console = _wide_console(_REPRODUCTION_WIDTH)
    if settings := console.width >= _WIDTH_WITH_SETTINGS:
        table.add_column("setting")
    for row in rows:
        table.add_row(
            row.recipe,
            percent(row.published.test_accuracy if row.published else None),
            percent(row.test_accuracy),
            f"{percent(row.ci95[0])} to {percent(row.ci95[1])}",
            percent(row.chance),
            control(row),
            points(row.difference),
            "teaches" if row.teaches else "does not",
            row.verdict,
            "–" if row.cost is None else f"{row.cost.core_hours:.3f}",
            *([row.setting or "–"] if settings else []),
        )
    console.print(table)
    _print_notes(rows)


def print_recipes(recipes: Iterable[Recipe[Any]]) -> None:
    """Print one line a recipe on standard output."""
    table = Table.grid(padding=(0, 2))
    for recipe in recipes:
        table.add_row(recipe.name, "teaches" if recipe.claim.teaches else "control", recipe.summary)
    Console(markup=False, highlight=False).print(table)


def print_artifacts(artifacts: Sequence[Description]) -> None:
    """Print one line an artifact on standard output."""
    table = Table("digest", "stage", "recipe", box=None, pad_edge=False)  # plain, for awk and the like
    for heading in ("seed", "data", "attack", "source", "target", "images", "accuracy", "success", "size"):
        table.add_column(heading, justify="right")
    table.add_column("made (UTC)", no_wrap=True)
    for entry in artifacts:
        table.add_row(
            entry.digest[:12],
            entry.stage,
            entry.recipe or "",
            "" if entry.seed is None else str(entry.seed),
            entry.data or "",
            "" if entry.norm is None or entry.eps is None else f"{entry.norm} {entry.eps:g}",
            entry.source_model or "",
            entry.target_model or "",
            "" if entry.images is None else f"{entry.images:,}",
            "" if entry.test_accuracy is None else percent(entry.test_accuracy),
            "" if entry.attack_success is None else percent(entry.attack_success),
            decimal(entry.bytes),
            entry.created[:16].replace("T", " "),
        )
    _wide_console(_STORE_WIDTH).print(table)


def print_runs(runs: Sequence[RunDescription]) -> None:
    """Print one line a run on standard output."""
    table = Table("run", "state", "began (UTC)", "recipe", title="runs of this store")
    for heading in ("seeds", "data", "attack", "source", "target", "seconds", "stages", "cached"):
        table.add_column(heading, justify="right")
    table.add_column("what")
    table.add_column("report", no_wrap=True)
    for run in runs:
        record, stages = run.record, run.record.stages
        table.add_row(
            record.run[:8],
            record.state,
            record.began[:16].replace("T", " "),
            run.recipe,
            run.seeds,
            run.data,
            f"{run.norm} {run.eps}".strip(),
            run.source_model,
            run.target_model,
            "" if record.seconds is None else f"{record.seconds:,.0f}",
            "" if stages is None else str(stages.total),
            "" if stages is None else str(stages.cached),
            record.title,
            (record.report or "")[:12],
        )
    _wide_console(_STORE_WIDTH).print(table)


def print_comparison(comparison: "Comparison") -> None:
    """Print the parameters that differ, then one line a place, on standard output."""
    console = _wide_console()
    parameters = Table("parameter", "first", "second", title="parameters that differ")
    for change in comparison.changes:
        parameters.add_row(change.field, ", ".join(change.first), ", ".join(change.second))
    console.print(parameters if comparison.changes else "no parameter differs", highlight=False)
    axes = list(comparison.differences[0].place)
    results = Table("recipe", title="test accuracy on clean images")
    for heading in (*axes, "first", "second", "difference", "95 % interval"):
        results.add_column(heading.replace("_", " "), justify="right")
    for entry in comparison.differences:
        results.add_row(
            entry.recipe,
            *(str(entry.place[axis]) for axis in axes),
            *(percent(side.mean if side else None) for side in (entry.first, entry.second)),
            points(entry.difference),
            "–" if entry.ci95 is None else f"{points(entry.ci95[0])} to {points(entry.ci95[1])}",
        )
    console.print(results)
    console.print(
        "Difference: second minus first, in points. Interval: Student's t over paired seeds where both have "
        "the same, else Welch's.",
        highlight=False,
    )


def _wide_console(least: int = 140) -> Console:
    return Console(width=max(Console().width, least), markup=False)  # brackets in a name are its own
