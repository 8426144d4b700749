"""Stage ``grid_report``: a row an experiment as JSON, CSV and Parquet, and one HTML file to look at."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.files.tables import int_array, read_table
from advfeat.planning import Point
from advfeat.recipes import RECIPES
from advfeat.report.figures import svg_picture
from advfeat.report.grid_html import GridCharts, GridContent, draw, render_grid
from advfeat.report.grid_story import heading, highest, place_name
from advfeat.report.groups import Group, groups, varying_axes
from advfeat.report.html import Example
from advfeat.report.numbers import shortened
from advfeat.report.rows import Row, cost_of, recipe_row
from advfeat.report.sheet import sheet
from advfeat.report.transfer import transfer_matrices, transfer_record, transfer_table
from advfeat.stages.examples import EXAMPLES, examples
from advfeat.stages.images import read_classes
from advfeat.storage import ArtifactRef, Stage, Store

_MOST_EXAMPLES = 6
"""Places of the grid whose images are shown."""
_FURTHER = 4
"""Images of each place but the first."""


def write_grid_report(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``report.html`` and the rows as JSON, CSV and Parquet; needs nothing but the store.

    ``pictures.json`` holds a few of the report's pictures as data URIs by heading, for other pages. Where
    several architectures meet in a recipe that measures transfer, ``transfer.csv`` has a line for each pair
    and ``transfer.json`` the matrices with their correlations.
    """

    def build(folder: Path) -> dict[str, Any]:
        grid = _FinishedGrid(stage, store)
        rows = grid.rows()
        content = grid.content(rows)
        charts = draw(content)
        (folder / "report.html").write_text(render_grid(content, charts), encoding="utf-8")
        (folder / "pictures.json").write_text(json.dumps(_pictures(content, charts)), encoding="utf-8")
        records = [row.model_dump(mode="json") for row in rows]
        (folder / "rows.json").write_text(json.dumps(records, indent=2), encoding="utf-8")
        table = pd.json_normalize(records)
        table.to_csv(folder / "rows.csv", index=False)
        table.to_parquet(folder / "rows.parquet")
        if content.transfers:
            matrices = [transfer_record(matrix) for matrix in content.transfers]
            (folder / "transfer.json").write_text(json.dumps(matrices, indent=2), encoding="utf-8")
            pairs = pd.DataFrame.from_records(transfer_table(content.transfers))
            pairs.to_csv(folder / "transfer.csv", index=False)
        return {}

    return store.write_stage(stage, build)


def _pictures(content: GridContent, charts: GridCharts) -> dict[str, str]:
    found = {f"Accuracy against {heading(axis)}": svg_picture(svg) for axis, svg in charts.by_axis.items()}
    for place, svg in list(charts.transfers.items())[:1]:
        found[f"Transfer matrix {place}".strip()] = svg_picture(svg)
    for (first, second), svg in list(charts.by_pair.items())[:1]:
        found[f"Accuracy by {heading(first)} and {heading(second)}"] = svg_picture(svg)
    for place, shown in list(content.examples.items())[:1]:
        found[f"Original and training images with their labels, {place}"] = sheet(shown)
    for place, plane in list(content.planes.items())[:1]:
        found[f"The plane, {place}"] = svg_picture(plane)
    return found


class _FinishedGrid:
    """What the store holds of a grid's points."""

    def __init__(self, stage: Stage, store: Store) -> None:
        self._stage, self._store = stage, store
        self._points = [Point.model_validate(point) for point in stage.parameters["points"]]
        self._made_of: list[dict[str, str]] = [{} for _ in self._points]
        for name, digest in stage.inputs.items():
            number, _, role = name.partition("/")
            self._made_of[int(number)][role] = digest
        self._varying: list[str] = []
        manifests = store.states(list(set(stage.inputs.values())))
        self._manifests = {digest: found for digest, (found, _) in manifests.items() if found is not None}

    def rows(self) -> list[Row]:
        """Return one row a point."""
        return [self._row(point, roles) for point, roles in zip(self._points, self._made_of, strict=True)]

    def content(self, rows: Sequence[Row]) -> GridContent:
        """Collect what the report shows."""
        by_row = {id(row): number for number, row in enumerate(rows)}
        places, self._varying = groups(rows), varying_axes(rows)
        first_of_groups = [by_row[id(group.rows[0])] for group in places]
        spread = np.linspace(0, len(places) - 1, min(_MOST_EXAMPLES, len(places))).round().astype(int)
        best = by_row[id(highest(places).rows[0])]
        shown = list(dict.fromkeys([best, *(first_of_groups[n] for n in spread)]))[:_MOST_EXAMPLES]
        return GridContent(
            title=self._stage.parameters["title"],
            rows=rows,
            missing=self._stage.parameters["missing"],
            losses={
                self._place(n): self._metrics(n, "target_model")["epoch_losses"]
                for n in first_of_groups
                if "target_model" in self._made_of[n]
            },
            transfers=transfer_matrices(rows),
            confusions={} if self._in_the_plane else self._confusions(places, by_row),
            examples={} if self._in_the_plane else self._examples(shown),
            planes={self._place(n): self._plane(n) for n in shown} if self._in_the_plane else {},
            total=cost_of(self._manifests.values()),
            experiment=self._points[0].experiment.model_dump(mode="json"),
            lineages=self._lineages(shown),
            digests=self._stage.inputs,
        )

    def _row(self, point: Point, roles: dict[str, str]) -> Row:
        experiment = point.experiment
        (recipe,) = experiment.recipes
        made = dict.fromkeys(digest for role, digest in roles.items() if role != "images")
        manifests = [self._manifests[digest] for digest in made]
        found = {role: [self._manifests[digest].metrics] for role, digest in roles.items()}
        row = recipe_row(
            RECIPES[recipe],
            experiment,
            found["dataset"],
            found["evaluation"],
            found.get("source_model", []),
        )
        return row.model_copy(
            update={
                "axes": point.axes,
                "cost": cost_of(manifests),
                "command": point.command,
            }
        )

    def _predictions(self, evaluation: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        table = read_table(self._store.read(evaluation, "predictions.parquet"))
        return int_array(table, "label"), int_array(table, "prediction")

    @property
    def _in_the_plane(self) -> bool:
        (recipe,) = self._points[0].experiment.recipes
        return RECIPES[recipe].learner == "network in the plane"

    def _confusions(
        self, places: Sequence[Group], by_row: Mapping[int, int]
    ) -> dict[str, tuple[NDArray[np.int64], tuple[str, ...]]]:
        """Count true against predicted classes, of each data set at its place of the highest accuracy."""
        found = {}
        for data in dict.fromkeys(str(place.axes["data"]) for place in places):
            best = highest([place for place in places if str(place.axes["data"]) == data])
            numbers = [by_row[id(row)] for row in best.rows]
            name = self._place(numbers[0]) or shortened(data)
            seeds = "1 seed" if len(numbers) == 1 else f"sum over {len(numbers)} seeds"
            found[f"{name}: {seeds}"] = self._confusion(numbers)
        return found

    def _confusion(self, numbers: Sequence[int]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
        chosen = [self._made_of[number] for number in numbers]
        classes = read_classes(self._store, chosen[0]["images"])
        counts = np.zeros((len(classes), len(classes)), np.int64)
        for roles in chosen:
            np.add.at(counts, self._predictions(roles["evaluation"]), 1)
        return counts, classes

    def _examples(self, numbers: Sequence[int]) -> dict[str, list[Example]]:
        """Show images of each data set once, more of the first place."""
        first = {self._made_of[number]["dataset"]: number for number in reversed(numbers)}
        return {
            self._place(number): examples(self._store, digest, EXAMPLES if number == numbers[0] else _FURTHER)
            for digest, number in reversed(first.items())
        }

    def _plane(self, number: int) -> str:
        return self._store.read(self._made_of[number]["evaluation"], "picture.svg").decode()

    def _lineages(self, numbers: Sequence[int]) -> dict[str, str]:
        """Draw what each data set was made from, once, at its first place."""
        first = {self._made_of[number]["dataset"]: number for number in reversed(numbers)}
        return {
            self._place(number): lineage_text(lineage(self._store, digest))
            for digest, number in reversed(first.items())
        }

    def _metrics(self, number: int, role: str) -> dict[str, Any]:
        return self._manifests[self._made_of[number][role]].metrics

    def _place(self, number: int) -> str:
        return place_name(self._points[number].axes, self._varying)
