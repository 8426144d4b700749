"""Runs side by side: in which parameters they differ, and what came of it."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict
from scipy import stats

from advfeat.planning.forms import AXES
from advfeat.planning.grid import axis_value
from advfeat.report.experiments import experiments_of, leaves
from advfeat.report.groups import varying_axes
from advfeat.report.rows import Row, read_rows
from advfeat.storage import Store


class Change(BaseModel):
    """A field of the experiments, dots between its parts, and the values it has in each run."""

    model_config = ConfigDict(frozen=True)

    field: str
    values: tuple[tuple[str, ...], ...]
    """Of each run, in their order; none where it has no such field."""


class Side(BaseModel):
    """Test accuracies at one place of one run, as fractions, by seed."""

    model_config = ConfigDict(frozen=True)

    accuracies: dict[int, float]

    @property
    def mean(self) -> float:
        """Mean test accuracy over seeds."""
        return sum(self.accuracies.values()) / len(self.accuracies)


class Difference(BaseModel):
    """What a run found at a place, and how far that is from what the first one found there.

    ``ci95`` is the interval of this one minus the first, as fractions: of the paired differences where both
    have the same seeds, else Welch's; None where one of them has a single seed.
    """

    model_config = ConfigDict(frozen=True)

    side: Side | None
    difference: float | None
    ci95: tuple[float, float] | None


class Place(BaseModel):
    """What runs found at the same place: recipe and values of the axes on which any of them varies."""

    model_config = ConfigDict(frozen=True)

    recipe: str
    place: dict[str, bool | str | int | float]
    first: Side | None
    others: tuple[Difference, ...]
    """Of the second run and those after it."""


class Comparison(BaseModel):
    """Differences in parameters and in results of several runs."""

    model_config = ConfigDict(frozen=True)

    changes: tuple[Change, ...]
    places: tuple[Place, ...]


def compare(store: Store, first: str, *others: str) -> Comparison:
    """Compare reports with the first, given by their digests, of single experiments or of grids.

    A grid's report holds what its points set; the rest is taken from the presets of the installed package.
    """
    runs = [_Run(store, digest) for digest in (first, *others)]
    varying = {axis: None for run in runs for axis in run.varying}
    axes = sorted(varying, key=lambda axis: AXES.index(axis) if axis in AXES else len(AXES))
    sides = [run.by_place(axes) for run in runs]
    return Comparison(
        changes=tuple(_changes([run.settings() for run in runs])),
        places=tuple(
            _place(key, axes, [found.get(key) for found in sides])
            for key in dict.fromkeys(key for found in sides for key in found)
        ),
    )


Key = tuple[Any, ...]


class _Run:
    """A report, and the experiment behind each of its rows."""

    def __init__(self, store: Store, digest: str) -> None:
        manifest = store.manifest(digest)
        self.rows: Sequence[Row] = read_rows(store, digest)
        self.varying = varying_axes(self.rows)
        whole = experiments_of(manifest, len(self.rows))
        self._experiments = [each.of(row.recipe) for each, row in zip(whole, self.rows, strict=True)]

    def settings(self) -> dict[str, dict[str, None]]:
        """Return the values of every field, over all experiments, in their order."""
        found: dict[str, dict[str, None]] = defaultdict(dict)
        for experiment in self._experiments:
            described = experiment.model_dump(mode="json", exclude={"name": True, "shards": True})
            recipes, seeds = described.pop("recipes"), described.pop("seeds")
            found["recipes"] |= dict.fromkeys(map(str, recipes))
            found["seeds"] |= dict.fromkeys(map(str, seeds))
            for field, value in leaves(described):
                found[field][str(value)] = None
        return found

    def by_place(self, axes: Sequence[str]) -> dict[Key, Side]:
        """Return accuracies by seed at each recipe and place on the axes."""
        found: dict[Key, dict[int, float]] = defaultdict(dict)
        for row, experiment in zip(self.rows, self._experiments, strict=True):
            key = (row.recipe, *(axis_value(experiment, row.recipe, axis) for axis in axes))
            found[key] |= zip(row.seeds, row.test_accuracies, strict=True)
        return {key: Side(accuracies=accuracies) for key, accuracies in found.items()}


def _changes(settings: Sequence[dict[str, dict[str, None]]]) -> list[Change]:
    return [
        Change(field=field, values=tuple(tuple(each.get(field, ())) for each in settings))
        for field in dict.fromkeys(field for each in settings for field in each)
        if len({frozenset(each.get(field, ())) for each in settings}) > 1
    ]


def _place(key: Key, axes: Sequence[str], sides: Sequence[Side | None]) -> Place:
    recipe, *values = key
    first, *others = sides
    return Place(
        recipe=recipe,
        place=dict(zip(axes, values, strict=True)),
        first=first,
        others=tuple(_difference(first, side) for side in others),
    )


def _difference(first: Side | None, side: Side | None) -> Difference:
    if first is None or side is None:
        return Difference(side=side, difference=None, ci95=None)
    interval = _interval(first.accuracies, side.accuracies)
    return Difference(side=side, difference=side.mean - first.mean, ci95=interval)


def _interval(first: dict[int, float], second: dict[int, float]) -> tuple[float, float] | None:
    if min(len(first), len(second)) < 2:
        return None
    if first.keys() == second.keys():
        result = stats.ttest_rel([second[seed] for seed in first], list(first.values()))
    else:
        result = stats.ttest_ind(list(second.values()), list(first.values()), equal_var=False)
    interval = result.confidence_interval(0.95)
    return float(interval.low), float(interval.high)
