"""Stage ``report``: rows as JSON and Parquet, and one HTML file to look at."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from advfeat.artifact import ArtifactRef
from advfeat.data.images import LabelledImages
from advfeat.recipes import RECIPES
from advfeat.report.figures import magnified, picture
from advfeat.report.html import Example, render
from advfeat.report.rows import Row, recipe_row
from advfeat.stage import Stage
from advfeat.stages.images import read_classes, read_split
from advfeat.store import Store
from advfeat.tables import image_array, int_array, read_table

EXAMPLES_PER_RECIPE = 4


def write_report(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``report.html``, ``rows.json`` and ``rows.parquet``; needs nothing but the store."""

    def build(folder: Path) -> dict[str, Any]:
        experiment = stage.parameters["experiment"]
        rows = [_row(stage, store, recipe) for recipe in experiment["recipes"]]
        originals = read_split(store, stage.inputs["images"], "train")
        examples = {
            recipe: _examples(stage, store, f"{recipe}/{experiment['seeds'][0]}/dataset", originals)
            for recipe in experiment["recipes"]
        }
        (folder / "report.html").write_text(render(experiment, rows, examples, stage.inputs))
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


def _examples(stage: Stage, store: Store, dataset: str, originals: LabelledImages) -> list[Example]:
    classes = read_classes(store, stage.inputs["images"])
    table = read_table(store.read(stage.inputs[dataset], "train.parquet"))
    spread = np.linspace(0, table.num_rows - 1, EXAMPLES_PER_RECIPE + 2).astype(int)[1:-1]
    table = table.take(np.unique(spread))
    examples = []
    for index, image, label, true_label in zip(
        int_array(table, "index"),
        image_array(table, np.float32),
        int_array(table, "label"),
        int_array(table, "original_label"),
        strict=True,
    ):
        original = (originals.images[index] / 255).astype(np.float32)
        perturbation, factor = magnified(image - original)
        examples.append(
            Example(
                original=picture(original),
                perturbation=picture(perturbation) if (image != original).any() else None,
                magnification=factor,
                adversarial=picture(image),
                original_label=classes[true_label],
                label=classes[label],
            )
        )
    return examples
