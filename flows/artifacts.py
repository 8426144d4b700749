"""What a grid shows in Prefect's user interface: progress, a table of results, and a report to read.

Keys are stable, one set a recipe, so that the interface keeps the history of each.
"""

import json
import time
from uuid import UUID

from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)

from advfeat.report.groups import groups, varying_axes
from advfeat.report.html import percent
from advfeat.stage import Stage
from advfeat.store import Store
from flows.result import RunResult

_SECONDS_BETWEEN_UPDATES = 2.0


class Progress:
    """The share of a grid's stages that are finished, as an artifact of the flow run."""

    def __init__(self, recipe: str, extent: str, total: int) -> None:
        self._total, self._finished = max(1, total), 0
        self._last = time.monotonic()
        created = create_progress_artifact(
            progress=0.0, key=artifact_key(recipe, "progress"), description=extent
        )
        assert isinstance(created, UUID)
        self._id = created

    def finished(self, stage: Stage) -> None:
        """Note that a stage is in the store."""
        self._finished += 1
        now = time.monotonic()
        if self._finished == self._total or now - self._last >= _SECONDS_BETWEEN_UPDATES:
            self._last = now
            update_progress_artifact(
                self._id, progress=100.0 * self._finished / self._total, description=f"last: {stage.title}"
            )


def publish_results(recipe: str, title: str, result: RunResult, store: Store) -> None:
    """Publish a grid's table and its report with plots, example images and links."""
    create_table_artifact(
        key=artifact_key(recipe, "results"),
        table=_table(result),
        description=f"{title}: one row an experiment",
    )
    create_markdown_artifact(key=artifact_key(recipe, "report"), markdown=_markdown(title, result, store))


def artifact_key(recipe: str, what: str) -> str:
    """Name an artifact: lower-case letters, digits and dashes."""
    return f"{recipe.replace('_', '-')}-{what}"


def _table(result: RunResult) -> list[dict[str, object]]:
    return [
        {
            **row.axes,
            "test accuracy": percent(row.test_accuracy),
            "95 % interval": f"{percent(row.ci95[0])} to {percent(row.ci95[1])}",
            "attack success": percent(row.attack_success),
            "source accuracy": percent(row.source_accuracy),
            "agreement with source": percent(row.source_agreement),
            "images": row.train_size,
        }
        for row in result.rows
    ]


def _markdown(title: str, result: RunResult, store: Store) -> str:
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
    pictures = json.loads(store.read(result.report, "pictures.json"))
    shown = [f"### {heading}\n\n![{heading}]({uri})" for heading, uri in pictures.items()]
    return "\n\n".join(
        [
            f"## {title}",
            f"{len(result.rows)} experiments; {result.stages.computed} stages computed, "
            f"{result.stages.cached} cached; {result.seconds:.0f} s. "
            f"Chance: {percent(result.rows[0].chance)}.",
            "\n".join(lines),
            *shown,
            f"Whole report: `advfeat report {result.report[:12]} --store {store.uri}`; "
            f"data sets: `advfeat ls --store {store.uri}`.",
        ]
    )
