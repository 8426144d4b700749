"""Stage ``report``: rows as JSON and Parquet, and one HTML file to look at."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from advfeat.artifact import ArtifactRef
from advfeat.recipes import RECIPES
from advfeat.report.html import render
from advfeat.report.rows import Row, recipe_row
from advfeat.stage import Stage
from advfeat.stages.examples import examples
from advfeat.stages.images import read_classes, read_split
from advfeat.store import Store


def write_report(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``report.html``, ``rows.json`` and ``rows.parquet``; needs nothing but the store."""

    def build(folder: Path) -> dict[str, Any]:
        experiment = stage.parameters["experiment"]
        rows = [_row(stage, store, recipe) for recipe in experiment["recipes"]]
        originals = read_split(store, stage.inputs["images"], "train")
        classes = read_classes(store, stage.inputs["images"])
        shown = {
            recipe: examples(
                store, stage.inputs[f"{recipe}/{experiment['seeds'][0]}/dataset"], originals, classes
            )
            for recipe in experiment["recipes"]
        }
        (folder / "report.html").write_text(render(experiment, rows, shown, stage.inputs))
        records = [row.model_dump(mode="json") for row in rows]
        (folder / "rows.json").write_text(json.dumps(records, indent=2))
        pd.json_normalize(records).to_parquet(folder / "rows.parquet")
        return {}

    return store.write_stage(stage, build)


def _row(stage: Stage, store: Store, recipe: str) -> Row:
    seeds = stage.parameters["experiment"]["seeds"]

    def metrics(role: str) -> list[dict[str, Any]]:
        digests = [stage.inputs.get(f"{recipe}/{seed}/{role}") for seed in seeds]
        return [store.manifest(digest).metrics for digest in digests if digest is not None]

    found = (metrics("dataset"), metrics("evaluation"), metrics("source_model"))
    return recipe_row(RECIPES[recipe], seeds, *found)
