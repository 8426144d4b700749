"""Stage ``report``: rows as JSON, Markdown and Parquet, and one HTML file to look at."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from advfeat.datasets.lineage import lineage, lineage_text
from advfeat.planning import Experiment, RecipeName
from advfeat.recipes import RECIPES, plain_name
from advfeat.report.controls import with_controls
from advfeat.report.figures import svg_picture
from advfeat.report.html import Example, render
from advfeat.report.markdown import markdown_report
from advfeat.report.rows import Row, cost_of, recipe_row
from advfeat.report.sheet import sheet
from advfeat.report.story import main_row
from advfeat.stages.examples import EXAMPLES, examples
from advfeat.stages.images import read_classes
from advfeat.storage import ArtifactRef, Stage, Store

_FEW, _EXAMPLES_OF_MANY = 8, 4
"""Of more data sets than a few, how many images of those that do not hold the main result."""
_DRAWINGS = {
    "picture.svg": "Points of the plane, and the decision regions of source and target network",
    "agreement.svg": "Share of the square on which source and target network agree",
}


def write_report(stage: Stage, store: Store) -> ArtifactRef:
    """Write ``report.html``, ``report.md``, ``rows.json`` and ``rows.parquet`` from the store alone.

    ``pictures.json`` holds a few pictures as data URIs by heading, for other pages.
    """

    def build(folder: Path) -> dict[str, Any]:
        experiment = stage.parameters["experiment"]
        first_seed = experiment["seeds"][0]
        rows = [_row(stage, store, recipe) for recipe in experiment["recipes"]]
        rows = with_controls(rows, Experiment.model_validate(experiment))
        shown: dict[str, list[Example]] = {}
        planes: dict[str, dict[str, str]] = {}
        lineages: dict[str, str] = {}
        for recipe in experiment["recipes"]:
            name, digest = plain_name(recipe), stage.inputs[f"{recipe}/{first_seed}/dataset"]
            if RECIPES[recipe].learner == "network in the plane":
                there = {file.name for file in store.manifest(digest).files}
                planes[name] = {
                    title: store.read(digest, drawing).decode()
                    for drawing, title in _DRAWINGS.items()
                    if drawing in there
                }
            else:
                whole = len(rows) <= _FEW or name == main_row(rows).recipe
                shown[name] = examples(store, digest, EXAMPLES if whole else _EXAMPLES_OF_MANY)
            lineages[name] = lineage_text(lineage(store, digest))
        classes = read_classes(store, stage.inputs["images"])
        page = render(experiment, rows, shown, planes, lineages, stage.inputs, classes)
        (folder / "report.html").write_text(page, encoding="utf-8")
        (folder / "pictures.json").write_text(json.dumps(_pictures(rows, shown, planes)), encoding="utf-8")
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


def _pictures(
    rows: Sequence[Row], shown: Mapping[str, Sequence[Example]], planes: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Return a few pictures: examples of the main result, and the first drawing of a plane."""
    main = main_row(rows).recipe
    found = {}
    if shown.get(main):
        found[f"Original and training images with their labels, {main}"] = sheet(shown[main])
    for recipe, drawings in planes.items():
        for title, drawing in list(drawings.items())[:1]:
            found[f"{title}, {recipe}"] = svg_picture(drawing)
    return found
