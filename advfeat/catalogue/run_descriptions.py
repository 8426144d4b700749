"""What each run of a store was about: its recipes, data, seeds, attack and networks, told from its report."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from advfeat.planning import Experiment, Point
from advfeat.storage import Manifest, Store
from advfeat.storage.runs import RunRecord, read_records


class RunDescription(BaseModel):
    """One run; what has several values, as in a grid, names them all. Empty where nothing is known of it."""

    model_config = ConfigDict(frozen=True)

    record: RunRecord
    recipe: str = ""
    data: str = ""
    seeds: str = ""
    norm: str = ""
    eps: str = ""
    """In [0, 1] pixel units; of l0 counts of values."""
    source_model: str = ""
    target_model: str = ""


_FIELDS = {
    "data": "data.source",
    "norm": "attack.norm",
    "eps": "attack.eps",
    "source_model": "source.model",
    "target_model": "target.model",
}
"""Fields of an experiment by the names of their columns, which are those of a grid's axes too."""


def described_runs(store: Store) -> list[RunDescription]:
    """Describe every run of a store, the last one at the end."""
    records = read_records(store)
    states = store.states([record.report for record in records if record.report is not None])
    reports = {digest: manifest for digest, (manifest, _) in states.items()}
    return [RunDescription(record=record, **_words(reports.get(record.report or ""))) for record in records]


def _words(report: Manifest | None) -> dict[str, str]:
    if report is None:
        return {}
    if report.stage == "report":
        experiment = Experiment.model_validate(report.parameters["experiment"])
        one = {name: [_value(experiment, field)] for name, field in _FIELDS.items()}
        return _joined({"recipe": experiment.recipes, "seeds": experiment.seeds, **one})
    points = [Point.model_validate(point) for point in report.parameters["points"]]
    first = points[0].experiment  # all have what it has, but for what an axis gives
    several = {
        name: [point.axes.get(name, _value(first, field)) for point in points]
        for name, field in _FIELDS.items()
    }
    seeds = [point.axes["seed"] for point in points]
    return _joined({"recipe": first.recipes, "seeds": seeds, **several})


def _joined(values: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    return {name: ", ".join(dict.fromkeys(map(str, found))) for name, found in values.items()}


def _value(experiment: Experiment, field: str) -> Any:
    value: Any = experiment
    for name in field.split("."):
        value = getattr(value, name)
    return value
