"""One row a recipe: what went in, what came out, with its interval, and what was published."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from advfeat.intervals import mean_interval, wilson_interval
from advfeat.recipes import Published, Recipe
from advfeat.spec import RecipeName, Seed
from advfeat.store import Store

Metrics = Mapping[str, Any]


class Cost(BaseModel):
    """What the artifacts behind a row took to make; what several rows share counts in each of them."""

    model_config = ConfigDict(frozen=True)

    seconds: float
    core_hours: float
    bytes: int


class Row(BaseModel):
    """The result of one recipe over all seeds; accuracies, shares and success are fractions."""

    model_config = ConfigDict(frozen=True)

    recipe: RecipeName
    summary: str
    seeds: tuple[Seed, ...]
    test_accuracy: float
    ci95: tuple[float, float]
    ci95_over: str
    test_accuracies: tuple[float, ...]
    chance: float
    attack_success: float | None
    train_size: int
    wrong_label_share: float
    mean_perturbation_norm: float | None
    source_accuracy: float | None
    published: Published | None
    axes: dict[str, str | int | float] = {}
    """In a grid, the row's values on the axes."""
    source_agreement: float | None = None
    """In a grid, the share of test images on which target and source model predict the same."""
    cost: Cost | None = None
    command: str | None = None
    """In a grid, what computes this row alone."""


def recipe_row(
    recipe: Recipe,
    seeds: Sequence[int],
    datasets: Sequence[Metrics],
    evaluations: Sequence[Metrics],
    sources: Sequence[Metrics],
) -> Row:
    """Summarize a recipe from the metrics of its stages, one entry a seed.

    The interval is Student's t over seeds, or Wilson's over the test images if there is one seed.
    """
    accuracies = [float(metrics["test_accuracy"]) for metrics in evaluations]
    if len(accuracies) > 1:
        interval, over = mean_interval(accuracies), "seeds"
    else:
        (only,) = evaluations
        interval, over = wilson_interval(only["right"], only["test_size"]), "test images"
    return Row(
        recipe=recipe.name,
        summary=recipe.summary,
        seeds=tuple(seeds),
        test_accuracy=float(np.mean(accuracies)),
        ci95=interval,
        ci95_over=over,
        test_accuracies=tuple(accuracies),
        chance=evaluations[0]["chance"],
        attack_success=_mean(datasets, "attack_success"),
        train_size=round(float(np.mean([metrics["train_size"] for metrics in datasets]))),
        wrong_label_share=_mean(datasets, "wrong_label_share") or 0.0,
        mean_perturbation_norm=_mean(datasets, "mean_perturbation_norm"),
        source_accuracy=_mean(sources, "test_accuracy"),
        published=recipe.published,
    )


def read_rows(store: Store, digest: str) -> list[Row]:
    """Read the rows of a report."""
    return [Row.model_validate(record) for record in json.loads(store.read(digest, "rows.json"))]


def _mean(metrics: Sequence[Metrics], name: str) -> float | None:
    values = [entry[name] for entry in metrics if entry[name] is not None]
    return float(np.mean(values)) if values else None
