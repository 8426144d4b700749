"""What is told of a finished run: each row's parameters, curves and figures, and where its data sets lie."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from advfeat.planning import Experiment
from advfeat.recipes import RECIPES, Recipe
from advfeat.report.experiments import experiments_of, leaves
from advfeat.report.rows import Row, read_rows
from advfeat.spec import Spec
from advfeat.storage import Manifest, Store
from advfeat.storage.runs import read_records, records_beginning, report_named

Parameter = bool | int | float | str
Curve = list[tuple[int, float]]
"""Values by epoch, the first of which is 1."""

_OF_EVERY_RECIPE = ("data", "evaluation")
_INTERVALS = ("ci95", "robust_ci95")
_MOST_REPORTS = 20
_SEED = "seed_{}/{}"


@dataclass(frozen=True)
class FinishedRow:
    """What is told of a recipe, in a grid of a point."""

    key: str
    """Run and number of the row: the same whenever it is told."""
    name: str
    summary: str
    parameters: dict[str, Parameter]
    """What was set of the experiment's fields that matter to the recipe, by their dotted names."""
    figures: dict[str, float]
    """Accuracies, shares and success are fractions."""
    curves: dict[str, Curve]
    """Losses of each epoch: means over seeds, and those of each seed behind ``seed_N/``."""
    places: dict[str, str]
    """URIs and digests of the data sets by seed, and of the report."""


@dataclass(frozen=True)
class FinishedRun:
    """A run with a report."""

    run: str
    """Its id; the report's digest where no record of a run names the report."""
    title: str
    began: datetime | None
    rows: tuple[FinishedRow, ...]
    report: str
    store: Store

    @cached_property
    def page(self) -> bytes:
        """The report, one HTML file."""
        return self.store.read(self.report, "report.html")


def finished_run(store: Store, name: str) -> FinishedRun:
    """Read the run that the start of its id, or of its report's digest, names.

    Raises ``InputError`` if it names none, or several, and ``DamagedArtifactError`` or
    ``MissingArtifactError`` where the store lacks what is to be told.
    """
    digest = report_named(store, name)
    named = [record for record in records_beginning(store, name) if record.report == digest]
    # Runs that found everything in the store have the same report; its digest means the last of them.
    records = named or [record for record in read_records(store) if record.report == digest]
    record = records[-1] if records else None
    report = store.manifest(digest)
    rows = read_rows(store, digest)
    experiments = experiments_of(report, len(rows))
    run = digest if record is None else record.run
    is_grid = report.stage == "grid_report"
    told = _Told(store, run, report, [row.axes for row in rows] if is_grid else [])
    return FinishedRun(
        run=run,
        title=str(report.parameters.get("title", "grid")) if is_grid else experiments[0].name,
        began=None if record is None else _moment(record.began),
        rows=tuple(map(told.row, range(len(rows)), rows, experiments)),
        report=digest,
        store=store,
    )


def has_report(run: FinishedRun, number: int) -> bool:
    """Tell whether a row carries the report: each of a few, of many the first alone."""
    return number == 0 or len(run.rows) <= _MOST_REPORTS


def _moment(text: str) -> datetime | None:
    with suppress(ValueError):  # of a record that somebody else wrote
        return datetime.fromisoformat(text)
    return None


class _Told:
    """Collects what a report's rows were made of."""

    def __init__(
        self, store: Store, run: str, report: Manifest, axes: Sequence[Mapping[str, Parameter]]
    ) -> None:
        self._store, self._run, self._report = store, run, report
        self._is_grid = report.stage == "grid_report"
        states = store.states(list(set(report.inputs.values())))
        self._manifests = {digest: found for digest, (found, _) in states.items() if found is not None}
        self._varying = [
            axis for axis in (axes[0] if axes else ()) if len({str(place.get(axis)) for place in axes}) > 1
        ]

    def row(self, number: int, row: Row, experiment: Experiment) -> FinishedRow:
        """Return what is told of a row of the report."""
        experiment = experiment.of(row.recipe)
        (recipe,) = experiment.recipes
        varying = ", ".join(f"{axis} {row.axes.get(axis)}" for axis in self._varying)
        return FinishedRow(
            key=f"{self._run}/{number}",
            name=f"{row.recipe}, {varying}" if varying else row.recipe,
            summary=row.summary,
            parameters=_parameters(row, experiment),
            figures=dict(_figures(row)),
            curves=self._curves(number, recipe, row),
            places=self._places(number, recipe, row),
        )

    def _made_of(self, number: int, recipe: str, seed: int, role: str) -> str | None:
        place = number if self._is_grid else f"{recipe}/{seed}"
        return self._report.inputs.get(f"{place}/{role}")

    def _curves(self, number: int, recipe: str, row: Row) -> dict[str, Curve]:
        curves: dict[str, Curve] = {}
        for role in ("source", "target"):
            by_seed = {}
            for seed in row.seeds:
                digest = self._made_of(number, recipe, seed, f"{role}_model")
                if digest is not None and (losses := self._manifest(digest).metrics.get("epoch_losses")):
                    by_seed[seed] = losses
            if by_seed:
                mean = np.mean(list(by_seed.values()), axis=0).tolist()
                curves[f"{role}_loss"] = list(enumerate(mean, start=1))
            for seed, losses in by_seed.items():
                curves[_SEED.format(seed, f"{role}_loss")] = list(enumerate(losses, start=1))
        return curves

    def _places(self, number: int, recipe: str, row: Row) -> dict[str, str]:
        places = {
            "report.digest": self._report.digest,
            "report.uri": self._store.artifact_uri(self._report.digest),
        }
        for seed in row.seeds:
            digest = self._made_of(number, recipe, seed, "dataset")
            if digest is not None:
                places[f"data_set.seed_{seed}.digest"] = digest
                places[f"data_set.seed_{seed}.uri"] = self._store.artifact_uri(digest)
        return places

    def _manifest(self, digest: str) -> Manifest:
        return self._manifests.get(digest) or self._store.manifest(digest)  # which says what is wrong


def _parameters(row: Row, experiment: Experiment) -> dict[str, Parameter]:
    (recipe,) = experiment.recipes
    described = experiment.model_dump(mode="json", include=set(_fields(RECIPES[recipe])))
    source = RECIPES[recipe].source
    if source is not None and (training := getattr(experiment, source)) is not None:
        described[source] = training.model_dump(mode="json")
    found: dict[str, Parameter] = {"recipe": recipe, "seeds": ", ".join(map(str, row.seeds))}
    for name, value in leaves(described):
        if value not in (None, []):
            found[name] = value if isinstance(value, bool | int | float | str) else json.dumps(value)
    return found | {f"axis.{axis}": value for axis, value in row.axes.items()}


def _fields(recipe: Recipe[Any]) -> Iterator[str]:
    """Name the fields of an experiment that matter to a recipe, but for its source model."""
    yield from _OF_EVERY_RECIPE
    if recipe.learner == "network":
        yield "target"
    if recipe.attacks:
        yield "attack"
    own: type[Spec] = recipe.settings
    yield from own.model_fields


def _figures(row: Row) -> Iterator[tuple[str, float]]:
    """Yield all that was measured, by the names of a row's fields, behind a slash those of what is nested."""
    for name, value in row:
        if isinstance(value, bool) or name in ("seeds", "axes"):
            continue
        if isinstance(value, int | float):
            yield name, value
        elif isinstance(value, dict):
            yield from ((f"{name}/{inner}", number) for inner, number in value.items())
    for name in _INTERVALS:
        if (interval := getattr(row, name)) is not None:
            yield from zip((f"{name}_low", f"{name}_high"), interval, strict=True)
    for seed, accuracy in zip(row.seeds, row.test_accuracies, strict=True):
        yield _SEED.format(seed, "test_accuracy"), accuracy
    for label, accuracy_of_class in enumerate(row.class_accuracies or ()):
        if accuracy_of_class is not None:
            yield f"class_accuracies/{label}", accuracy_of_class
    if row.difference is not None:
        yield "difference_from_published", row.difference
    if row.cost is not None:
        yield from ((f"cost/{name}", number) for name, number in row.cost)
