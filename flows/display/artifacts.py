"""What a run shows in Prefect's user interface: its results, a report to read, and its data sets.

Keys are stable, one set a flow, so that the interface keeps the history of each.
"""

import json
import re
import shlex
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Annotated, TypeVar

from prefect.artifacts import (
    create_markdown_artifact,
    create_table_artifact,
)
from pydantic import Field, TypeAdapter

from advfeat.catalogue.descriptions import described_of
from advfeat.flows.result import RunResult
from advfeat.report.groups import Group, groups, varying_axes
from advfeat.report.numbers import interval, percent
from advfeat.report.published import published_line
from advfeat.report.rows import Row
from advfeat.report.verdicts import claimed, reasons, success_lines, verdict_label, verdict_summary
from advfeat.storage import Store

_PICTURES = TypeAdapter(dict[str, Annotated[str, Field(pattern="^data:image/")]])
"""By heading; none is fetched from elsewhere."""

_MOST_CHARACTERS = 900_000
"""Of an artifact: pages that show more are slow, and servers may refuse it."""

_MOST_ROWS = 1000
"""Of a table, which Prefect's page draws whole; the report has all."""

_Line = TypeVar("_Line")


def publish_results(flow: str, title: str, result: RunResult, store: Store) -> None:
    """Publish a run's table, its report with verdicts and pictures, and its data sets."""
    table = _table(result)
    create_table_artifact(
        key=artifact_key(flow, "results"),
        table=(shown := _first(table, _dumped)),
        description=f"{title}: one row an experiment{_of_all(shown, table)}",
    )
    create_markdown_artifact(
        key=artifact_key(flow, "report"),
        markdown=_markdown(flow, title, result, store),
        description=f"{title}: {_verdicts(result.rows)}",
    )
    digests = _data_sets(result, store)
    if data_sets := _described(digests[:_MOST_ROWS], store):
        create_table_artifact(
            key=artifact_key(flow, "data-sets"),
            table=(shown := _first(data_sets, _dumped)),
            description=f"{title}: the data sets{_of_all(shown, digests)}; "
            f"advfeat.store({store.uri!r}).load(DIGEST) loads one",
        )


def _first(lines: Sequence[_Line], written: Callable[[_Line], str]) -> list[_Line]:
    """Return the first lines of a table, as many as a page can show."""
    sizes = accumulate(len(written(line)) + len(", ") for line in lines[:_MOST_ROWS])
    return [line for line, size in zip(lines, sizes, strict=False) if size <= _MOST_CHARACTERS]


def _dumped(line: dict[str, object]) -> str:
    return json.dumps(line, default=str)


def _of_all(shown: Sequence[object], lines: Sequence[object]) -> str:
    """Say how many lines a table would have, if it has not all of them."""
    if len(shown) == len(lines):
        return ""
    return f", the first {len(shown):,} of {len(lines):,}; the report has all"


def artifact_key(subject: str, what: str) -> str:
    """Name an artifact: lower-case letters, digits and dashes."""
    return "-".join(re.findall("[a-z0-9]+", f"{subject} {what}".lower()))


def _data_sets(result: RunResult, store: Store) -> list[str]:
    """Return the digests of the data sets behind a report, each once."""
    inputs = store.manifest(result.report).inputs
    return list(dict.fromkeys(digest for role, digest in inputs.items() if role.endswith("/dataset")))


def _described(digests: Sequence[str], store: Store) -> list[dict[str, object]]:
    """Return a line for each of these data sets."""
    return [
        {
            "recipe": found.recipe,
            "norm": found.norm or "–",
            "eps": "–" if found.eps is None else found.eps,
            "seed": found.seed,
            "images": found.images,
            "attack success": percent(found.attack_success),
            "digest": found.digest[:12],
            "bytes": found.bytes,
            "load": f"advfeat.store({store.uri!r}).load({found.digest[:12]!r})",
            "card": f"advfeat card {found.digest[:12]} --store {shlex.quote(store.uri)}",
            "Parquet": found.uri,
        }
        for found in described_of(store, digests)
        if found.images is not None
    ]


def _table(result: RunResult) -> list[dict[str, object]]:
    """Return a line a row; of a grid each has the verdict on its place, as the report has."""
    judged = {id(row): found for found in _judged(result.rows) for row in getattr(found, "rows", (found,))}
    return [
        {
            "recipe": row.recipe,
            **row.axes,
            "test accuracy": percent(row.test_accuracy),
            "95 % interval": interval(row.ci95),
            "verdict": verdict_label(judged[id(row)]),
            "attack success": ", ".join(success_lines(row)),
            "source accuracy": percent(row.source_accuracy),
            "agreement with source": percent(row.source_agreement),
            **({} if row.transfer_rate is None else {"transfer rate": percent(row.transfer_rate)}),
            "images": row.train_size,
        }
        for row in result.rows
    ]


def _markdown(flow: str, title: str, result: RunResult, store: Store) -> str:
    parts = [
        f"## {title}",
        f"**{_verdicts(result.rows)}.** {len(result.rows)} experiments; {result.stages.computed} stages "
        f"computed, {result.stages.cached} cached; {result.seconds:.0f} s. "
        f"Chance: {percent(result.rows[0].chance)}.",
        _whole_report(result, store),
        _results(result.rows),
        *reasons(_judged(result.rows)),
        _claims(result.rows),
    ]
    last = f"Data sets: the artifact {artifact_key(flow, 'data-sets')}."
    pictures = _PICTURES.validate_json(store.read(result.report, "pictures.json"))
    for heading, uri in pictures.items():
        part = f"### {heading}\n\n![{heading}]({uri})"
        if sum(map(len, parts)) + len(part) < _MOST_CHARACTERS:
            parts.append(part)
    return "\n\n".join([*parts, last])


def _judged(rows: Sequence[Row]) -> Sequence[Row | Group]:
    """Return what verdicts are on: the places of a grid, or the rows of an experiment."""
    return groups(rows) if any(row.axes for row in rows) else rows


def _verdicts(rows: Sequence[Row]) -> str:
    return verdict_summary(_judged(rows))


def _results(rows: Sequence[Row]) -> str:
    """Write a table with the verdict on each place of a grid, or on each recipe."""
    varying = varying_axes(rows) if any(row.axes for row in rows) else []
    heads = [*(varying or ["recipe"]), "seeds", "test accuracy", "95 % interval", "verdict"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    places = _judged(rows)
    for found in places[:_MOST_ROWS]:
        if isinstance(found, Group):
            first, accuracy = [str(found.axes[axis]) for axis in varying], found.mean
        else:
            first, accuracy = [], found.test_accuracy
        cells = [
            *(first or [_one_row(found).recipe]),
            str(len(found.seeds)),
            percent(accuracy),
            interval(found.ci95),
            verdict_label(found),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    table = "\n".join(lines)
    left = len(places) - _MOST_ROWS
    return f"{table}\n\n{left:,} more are in the whole report." if left > 0 else table


def _one_row(found: Row | Group) -> Row:
    return found.rows[0] if isinstance(found, Group) else found


def _claims(rows: Sequence[Row]) -> str:
    """Say of each recipe what is claimed, and what was published, once."""
    lines = []
    for row in {row.recipe: row for row in rows}.values():
        published = published_line(row)
        lines.append(
            f"- **{row.recipe}**: {claimed(row)}." + (f" Published: {published}." if published else "")
        )
    return "\n".join(lines)


def _whole_report(result: RunResult, store: Store) -> str:
    """Say how to open the whole report: at the store's address for a week, or as a file, or by a command."""
    command = f"`advfeat report {result.run[:8]} --open --store {shlex.quote(store.uri)}`"
    if (address := store.address(result.report, "report.html")) is not None:
        return f"[Whole report]({address}) (the link holds for a week), or {command}"
    if not store.is_local:
        return f"Whole report: {command}"
    name = next(file.path for file in store.manifest(result.report).files if file.name == "report.html")
    # A block of its own: a path is one long word, which a page would not break.
    path = f"{store.artifact_uri(result.report)}/{name}"
    return f"Whole report: {command}, or the file\n\n```text\n{path}\n```"
