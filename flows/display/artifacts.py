"""What a run shows in Prefect's user interface: its results as a table and a report to read.

Keys are stable, one set a recipe, so that the interface keeps the history of each.
"""

import re
import shlex
from typing import Annotated

from prefect.artifacts import (
    create_markdown_artifact,
    create_table_artifact,
)
from pydantic import Field, TypeAdapter

from advfeat.files.parts import first_row
from advfeat.flows.result import RunResult
from advfeat.report.groups import groups, varying_axes
from advfeat.report.numbers import percent
from advfeat.storage import Store

_PICTURES = TypeAdapter(dict[str, Annotated[str, Field(pattern="^data:image/")]])
"""By heading; none is fetched from elsewhere."""


def publish_results(recipe: str, title: str, result: RunResult, store: Store) -> None:
    """Publish a grid's table and its report with plots, example images and links."""
    publish_table(recipe, title, result)
    create_markdown_artifact(
        key=artifact_key(recipe, "report"), markdown=_markdown(recipe, title, result, store)
    )
    if data_sets := _data_sets(result, store):
        create_table_artifact(
            key=artifact_key(recipe, "data-sets"),
            table=data_sets,
            description=f"{title}: the data sets, Parquet, where they lie",
        )


def publish_table(flow: str, title: str, result: RunResult) -> None:
    """Publish the rows of a run as a table."""
    create_table_artifact(
        key=artifact_key(flow, "results"),
        table=_table(result),
        description=f"{title}: one row an experiment",
    )


def artifact_key(subject: str, what: str) -> str:
    """Name an artifact: lower-case letters, digits and dashes."""
    return "-".join(re.findall("[a-z0-9]+", f"{subject} {what}".lower()))


def _data_sets(result: RunResult, store: Store) -> list[dict[str, object]]:
    """List the data sets behind a grid's report, each once."""
    inputs = store.manifest(result.report).inputs
    digests = dict.fromkeys(digest for role, digest in inputs.items() if role.endswith("/dataset"))
    found: list[dict[str, object]] = []
    for manifest, _ in store.states(list(digests)).values():
        if manifest is None:
            continue
        if any(first_row(file.name, "train") is not None for file in manifest.files):
            uri = store.artifact_uri(manifest.digest)
            card = f"advfeat card {manifest.digest[:12]} --store {shlex.quote(store.uri)}"
            size = manifest.metrics["train_size"]
            found.append({"images": size, "bytes": manifest.bytes, "Parquet": uri, "card": card})
    return found


def _table(result: RunResult) -> list[dict[str, object]]:
    return [
        {
            "recipe": row.recipe,
            **row.axes,
            "test accuracy": percent(row.test_accuracy),
            "95 % interval": f"{percent(row.ci95[0])} to {percent(row.ci95[1])}",
            "attack success": percent(row.attack_success),
            "source accuracy": percent(row.source_accuracy),
            "agreement with source": percent(row.source_agreement),
            **({} if row.transfer_rate is None else {"transfer rate": percent(row.transfer_rate)}),
            "images": row.train_size,
        }
        for row in result.rows
    ]


def _markdown(recipe: str, title: str, result: RunResult, store: Store) -> str:
    varying = varying_axes(result.rows)
    heads = [*varying, "seeds", "test accuracy", "95 % interval"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for group in groups(result.rows):
        cells = [
            *(str(group.axes[axis]) for axis in varying),
            str(len(group.rows)),
            percent(group.mean),
            f"{percent(group.ci95[0])} to {percent(group.ci95[1])}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    pictures = _PICTURES.validate_json(store.read(result.report, "pictures.json"))
    shown = [f"### {heading}\n\n![{heading}]({uri})" for heading, uri in pictures.items()]
    return "\n\n".join(
        [
            f"## {title}",
            f"{len(result.rows)} experiments; {result.stages.computed} stages computed, "
            f"{result.stages.cached} cached; {result.seconds:.0f} s. "
            f"Chance: {percent(result.rows[0].chance)}.",
            "\n".join(lines),
            *shown,
            f"Whole report: `advfeat report {result.run[:8]} --store {shlex.quote(store.uri)}`; "
            f"data sets: the artifact {artifact_key(recipe, 'data-sets')}.",
        ]
    )
