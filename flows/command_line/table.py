"""The rows of a run as a table for the terminal."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from advfeat.catalogue.descriptions import Description
from advfeat.catalogue.run_descriptions import RunDescription
from advfeat.flows.command_line.fitting import Column, console_of, print_table
from advfeat.flows.command_line.plan_lines import cost_line, plan_lines
from advfeat.recipes import Recipe
from advfeat.report.controls import control
from advfeat.report.groups import Group, groups, varying_axes
from advfeat.report.numbers import correlation, interval, interval_note, percent, points
from advfeat.report.published import published_line, published_note
from advfeat.report.rows import Row
from advfeat.report.transfer import transfer_matrices
from advfeat.report.verdicts import (
    claimed,
    correlation_lines,
    predicted_of_places,
    reasons,
    success_lines,
    verdict_label,
    verdict_line,
    verdict_parts,
    verdict_summary,
)

if TYPE_CHECKING:
    from advfeat.planning import Outlook
    from advfeat.report.comparison import Comparison

_WIDE = 140
_WIDE_REPRODUCTION = 190
_WIDE_STORE = 170
"""Where the output is no terminal."""
_AS_IT_IS = 10_000
_MOST_RECIPES_NAMED = 2
_WIDEST_WORD = 26
"""Such as ``robust_source.epochs=16,``, which is read wrong where it is folded."""
_ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth")


def print_grid(title: str, rows: Sequence[Row]) -> None:
    """Print one line a place of the grid, over its seeds, on standard output."""
    places = groups(rows)
    console = console_of(_WIDE)
    print_table(console, [*_axes(places, varying_axes(rows)), *_results(places)], title)
    _print_verdicts(console, places)
    console.print(f"Claim: {claimed(rows[0])}. Predicted: {predicted_of_places(places)}.")
    over = interval_note(row.ci95_over for row in rows)
    console.print(f"95 % intervals: Student's t over seeds; where there is one, {over}.")
    for matrix in transfer_matrices(rows):
        place = f" at {matrix.title}" if matrix.title else ""
        found = correlation(matrix.over_all)
        console.print(f"Transfer rate against test accuracy{place}: {found}.")
        for line in correlation_lines(matrix):
            console.print(line)


def _print_verdicts(console: Console, found: Sequence[Row | Group]) -> None:
    for line in [f"Verdicts: {verdict_summary(found)}.", *reasons(found)]:
        console.print(line)


def _axes(places: Sequence[Group], varying: Sequence[str]) -> list[Column]:
    return [
        Column(axis.replace("_", " "), [str(group.axes[axis]) for group in places], rank=0)
        for axis in varying
    ]


def _results(places: Sequence[Group]) -> Iterator[Column]:
    """Yield the columns of a grid's results, the test accuracy first."""

    def averages(heading: str, field: str, rank: int) -> Column:
        return Column(heading, [percent(group.average(field)) for group in places], rank)

    yield Column("test accuracy", [percent(group.mean) for group in places])
    yield Column("95 % interval", [interval(group.ci95) for group in places], 1)
    if places[0].robust_ci95 is not None:
        yield averages("robust accuracy", "robust_accuracy", 3)
        yield Column("95 % interval", [interval(group.robust_ci95) for group in places], 4)
    verdicts = ["\n".join([verdict_label(group), *verdict_parts(group)]) for group in places]
    yield Column("verdict", verdicts, 2)
    yield Column("attack success", ["\n".join(success_lines(group)) for group in places], 5)
    if places[0].rows[0].transfer_rate is not None:
        yield averages("transfer rate", "transfer_rate", 6)
    yield averages("source accuracy", "source_accuracy", 8)
    yield Column("seeds", [str(len(group.rows)) for group in places], 7)


def print_rows(rows: Sequence[Row]) -> None:
    """Print one line a recipe on standard output."""
    columns = [
        Column("recipe", [row.recipe for row in rows]),
        Column("test accuracy", [percent(row.test_accuracy) for row in rows]),
        Column("95 % interval", [interval(row.ci95) for row in rows], 1),
        Column("verdict", [verdict_label(row) for row in rows], 2),
        Column("chance", [percent(row.chance) for row in rows], 3),
        Column("published *", [_published(row) for row in rows], 5),
        Column("attack success", ["\n".join(success_lines(row)) for row in rows], 4),
        Column("wrong labels", [percent(row.wrong_label_share) for row in rows], 6),
        Column("images used", [f"{row.train_size:,}" for row in rows], 7),
    ]
    title = "target models, tested on clean images under correct labels"
    print_table(console_of(_WIDE), columns, title)
    _print_notes(rows)


def _published(row: Row) -> str:
    return percent(row.published.test_accuracy if row.published else None)


def _print_notes(rows: Sequence[Row]) -> None:
    console = console_of(_WIDE)
    _print_verdicts(console, rows)
    over = interval_note(row.ci95_over for row in rows)
    seeds = ", ".join(map(str, rows[0].seeds))
    console.print(f"95 % intervals: {over}. Seeds: {seeds}.")
    for row in rows:
        if (line := published_line(row)) is not None:
            console.print(f"* {row.recipe}: {line}.")
    console.print(f"* {published_note(rows)}")
    for row in rows:
        if row.robust is not None:  # its verdict is on two parts, which no cell holds
            console.print(f"{row.recipe}: {verdict_line(row)}")


def print_reproduction(rows: Sequence[Row]) -> None:
    """Print one line a recipe, published beside found, on standard output."""
    hours = ["–" if row.cost is None else f"{row.cost.core_hours:.3f}" for row in rows]
    columns = [
        Column("recipe", [row.recipe for row in rows]),
        Column("test accuracy", [percent(row.test_accuracy) for row in rows]),
        Column("95 % interval", [interval(row.ci95) for row in rows], 3),
        Column("published *", [_published(row) for row in rows], 2),
        Column("chance", [percent(row.chance) for row in rows], 4),
        Column("control", [control(row) for row in rows], 6),
        Column("difference", [points(row.difference) for row in rows], 7),
        Column("claim", ["teaches" if row.teaches else "does not" for row in rows], 5),
        Column("verdict", [verdict_label(row) for row in rows], 1),
        Column("core- hours", hours, 8),
        Column("setting", [row.setting or "–" for row in rows], 9, is_text=True),
    ]
    title = "published, found, and whether it bears the claim out"
    print_table(console_of(_WIDE_REPRODUCTION), columns, title)
    _print_notes(rows)


def print_plan(entries: Sequence["Outlook"]) -> None:
    """Print what each stage is, its digest, whether it is there and why, and what is missing costs."""
    lines = plan_lines(entries)
    columns = [
        Column("", [line.digest for line in lines]),
        Column("", [line.state for line in lines], is_text=True),
        Column("", [line.title for line in lines], is_text=True),
        Column("", [line.why for line in lines], is_text=True),
    ]
    console = console_of(_AS_IT_IS)
    print_table(console, columns, plain=True)
    console.print(cost_line(entries))


def print_recipes(recipes: Iterable[Recipe[Any]]) -> None:
    """Print one line a recipe on standard output."""
    table = Table.grid(padding=(0, 2))
    for recipe in recipes:
        table.add_row(recipe.name, "teaches" if recipe.claim.teaches else "control", recipe.summary)
    Console(markup=False, highlight=False).print(table)


def print_presets(summaries: Mapping[str, str]) -> None:
    """Print one line a preset on standard output."""
    table = Table.grid(padding=(0, 2))
    for name, summary in summaries.items():
        table.add_row(name, summary)
    Console(markup=False, highlight=False).print(table)


def print_artifacts(artifacts: Sequence[Description]) -> None:
    """Print one line an artifact on standard output."""

    def column(heading: str, rank: int, cell: Callable[[Description], str | None]) -> Column:
        return Column(heading, [cell(entry) or "" for entry in artifacts], rank)

    columns = [
        column("digest", 0, lambda entry: entry.digest[:12]),
        column("stage", 0, lambda entry: entry.stage),
        column("recipe", 2, _recipes),
        column("seed", 4, lambda entry: None if entry.seed is None else str(entry.seed)),
        column("data", 6, lambda entry: entry.data),
        column("attack", 5, _attack),
        column("source", 7, lambda entry: entry.source_model),
        column("target", 8, lambda entry: entry.target_model),
        column("images", 9, lambda entry: None if entry.images is None else f"{entry.images:,}"),
        column("accuracy", 1, lambda entry: _percent(entry.test_accuracy)),
        column("success", 3, lambda entry: _percent(entry.attack_success)),
        column("size", 10, lambda entry: decimal(entry.bytes)),
        column("made (UTC)", 11, lambda entry: _minute(entry.created)),
    ]
    print_table(console_of(_WIDE_STORE), columns, plain=True)  # for awk and the like


def _recipes(entry: Description) -> str | None:
    """Return the recipe, or of a report on many how many: their names leave no room for other columns."""
    several = (entry.recipe or "").split(", ")
    return f"{len(several)} recipes" if len(several) > _MOST_RECIPES_NAMED else entry.recipe


def _attack(entry: Description) -> str | None:
    return None if entry.norm is None or entry.eps is None else f"{entry.norm} {entry.eps:g}"


def _percent(fraction: float | None) -> str | None:
    return None if fraction is None else percent(fraction)


def _minute(time: str) -> str:
    return time[:16].replace("T", " ")


def print_runs(runs: Sequence[RunDescription]) -> None:
    """Print one line a run on standard output."""

    def column(heading: str, rank: int, cell: Callable[[RunDescription], str], text: bool = False) -> Column:
        cells = [cell(run) for run in runs]
        words = (len(word) for each in cells for word in each.split())
        return Column(heading, cells, rank, text, least=min(_WIDEST_WORD, max(15, *words, 0)))

    def count(name: str) -> Callable[[RunDescription], str]:
        return lambda run: "" if (stages := run.record.stages) is None else str(getattr(stages, name))

    def seconds(run: RunDescription) -> str:
        return "" if run.record.seconds is None else f"{run.record.seconds:,.0f}"

    columns = [
        column("run", 0, lambda run: run.record.run[:8]),
        column("state", 0, lambda run: run.record.state),
        column("user", 4, lambda run: run.record.user, text=True),
        column("note", 1, lambda run: run.record.note, text=True),
        column("recipe", 2, lambda run: run.recipe, text=True),
        column("changed", 3, lambda run: run.record.changed, text=True),
        column("began (UTC)", 5, lambda run: _minute(run.record.began)),
        column("seeds", 7, lambda run: run.seeds),
        column("data", 6, lambda run: run.data),
        column("attack", 9, lambda run: f"{run.norm} {run.eps}".strip()),
        column("source", 10, lambda run: run.source_model),
        column("target", 11, lambda run: run.target_model),
        column("seconds", 12, seconds),
        column("stages", 13, count("total")),
        column("cached", 14, count("cached")),
        column("what", 8, lambda run: run.record.title, text=True),
        column("report", 4, lambda run: (run.record.report or "")[:12]),
    ]
    columns = [each for each in columns if each.rank == 0 or any(each.cells)]
    print_table(console_of(_WIDE_STORE), columns, "runs of this store")


def print_comparison(comparison: "Comparison") -> None:
    """Print the parameters that differ, then one line a place, on standard output."""
    console = console_of(_WIDE)
    changes, places = comparison.changes, comparison.places
    names = [_ORDINALS[number] for number in range(1 + len(places[0].others))]
    parameters = [
        Column("parameter", [change.field for change in changes]),
        *(
            Column(name, [", ".join(change.values[number]) for change in changes], is_text=True, least=12)
            for number, name in enumerate(names)
        ),
    ]
    if changes:
        print_table(console, parameters, "parameters that differ")
    else:
        console.print("no parameter differs")
    results = [
        Column("recipe", [entry.recipe for entry in places]),
        *(
            Column(axis.replace("_", " "), [str(entry.place[axis]) for entry in places])
            for axis in places[0].place
        ),
        Column(names[0], [percent(entry.first.mean if entry.first else None) for entry in places], 2),
    ]
    for number, name in enumerate(names[1:]):
        found = [entry.others[number] for entry in places]
        accuracies = [percent(each.side.mean if each.side else None) for each in found]
        results += [
            Column(name, accuracies, 2),
            Column("difference", [points(each.difference) for each in found]),
            Column("95 % interval", [_points_interval(each.ci95) for each in found], 3 if names[2:] else 1),
        ]
    print_table(console, results, "test accuracy on clean images")
    other = "second minus first" if len(names) == 2 else "each minus first"
    console.print(
        f"Difference: {other}, in points. Interval: Student's t over paired seeds where both have "
        "the same, else Welch's."
    )


def _points_interval(ci95: tuple[float, float] | None) -> str:
    return "–" if ci95 is None else f"{points(ci95[0])} to {points(ci95[1])}"
