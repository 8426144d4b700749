"""Stage ``report``: rows as JSON, Markdown and Parquet, and one HTML file to look at."""

import json
from pathlib import Path
from typing import Any

import pandas as pd

from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.planning import Experiment, RecipeName
from advfeat.recipes import RECIPES, plain_name
from advfeat.report.controls import with_controls
from advfeat.report.html import render
from advfeat.report.markdown import markdown_report
from advfeat.report.rows import Row, cost_of, recipe_row
from advfeat.stages.examples import examples
from advfeat.stages.images import read_classes
from advfeat.storage import ArtifactRef, Stage, Store


def write_report(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``report.html``, ``report.md``, ``rows.json`` and ``rows.parquet`` from the store alone."""

    def build(folder: Path) -> dict[str, Any]:
        experiment = stage.parameters["experiment"]
        first_seed = experiment["seeds"][0]
        rows = [_row(stage, store, recipe) for recipe in experiment["recipes"]]
        rows = with_controls(rows, Experiment.model_validate(experiment))
        shown, planes, lineages = {}, {}, {}
        for recipe in experiment["recipes"]:
            name, digest = plain_name(recipe), stage.inputs[f"{recipe}/{first_seed}/dataset"]
            if RECIPES[recipe].learner == "network in the plane":
                names = [file.name for file in store.manifest(digest).files]
                planes[name] = [store.read(digest, name).decode() for name in sorted(names, reverse=True)]
            else:
                shown[name] = examples(store, digest)
            lineages[name] = lineage_text(lineage(store, digest))
        classes = read_classes(store, stage.inputs["images"])
        page = render(experiment, rows, shown, planes, lineages, stage.inputs, classes)
        (folder / "report.html").write_text(page, encoding="utf-8")
        (folder / "report.md").write_text(markdown_report(rows), encoding="utf-8")
        records = [row.model_dump(mode="json") for row in rows]
        (folder / "rows.json").write_text(json.dumps(records, indent=2), encoding="utf-8")
        pd.json_normalize(records).to_parquet(folder / "rows.parquet")
        return {}

    return store.write_stage(stage, build)


def _row(stage: Stage, store: Store, recipe: RecipeName) -> Row:
    experiment = Experiment.model_validate(stage.parameters["experiment"]).of(recipe)

    def metrics(role: str) -> list[dict[str, Any]]:
        digests = [stage.inputs.get(f"{recipe}/{seed}/{role}") for seed in experiment.seeds]
        return [store.manifest(digest).metrics for digest in digests if digest is not None]

    row = recipe_row(RECIPES[recipe], experiment, *map(metrics, ("dataset", "evaluation", "source_model")))
    behind = {digest for name, digest in stage.inputs.items() if name.startswith(f"{recipe}/")}
    return row.model_copy(update={"cost": cost_of(map(store.manifest, sorted(behind)))})
