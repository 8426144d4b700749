"""What each run of a store was about: recipes, data, seeds, attack and networks, by its report or plan."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from advfeat.errors import InputError
from advfeat.planning import Point
from advfeat.recipes import plain_name
from advfeat.storage import Manifest, Stage, Store
from advfeat.storage.runs import RunRecord, read_plan, read_records


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


def described_runs(store: Store, newest: int | None = None) -> list[RunDescription]:
    """Describe every run of a store, or those whose records were written last; the last one at the end."""
    records = read_records(store, newest)
    told = {record.report for record in records if record.report is not None}
    reports = {manifest.digest: manifest for manifest in store.readable_manifests(told)}
    return [RunDescription(record=record, **_words(_made_by(store, record, reports))) for record in records]


def _made_by(store: Store, record: RunRecord, reports: Mapping[str, Manifest]) -> Manifest | Stage | None:
    """Return the report of a run; of an experiment that has none yet, or failed, the one that it planned."""
    if record.report is not None:
        return reports.get(record.report)
    return next((stage for stage in read_plan(store, record.run) or () if stage.kind == "report"), None)


def runs_of(found: Sequence[RunDescription], recipe: str | None) -> list[RunDescription]:
    """Return the runs of one recipe, if it is given: of a grid of it, or of several recipes among them it."""
    if recipe is None:
        return list(found)
    return [run for run in found if recipe in (run.record.flow, *run.recipe.split(", "))]


def _words(report: Manifest | Stage | None) -> dict[str, str]:
    """Tell what a report says of itself; of recipes and fields that are not known here too."""
    if report is None:
        return {}
    if isinstance(report, Stage) or report.stage == "report":
        fields = report.parameters.get("experiment") or {}
        one = {name: _values(fields, field) for name, field in _FIELDS.items()}
        return _joined(
            {"recipe": map(plain_name, fields.get("recipes", ())), "seeds": fields.get("seeds", ()), **one}
        )
    points = report.parameters.get("points") or []
    shared = _fields_of(points)
    axes = [point.get("axes", {}) for point in points]
    several = {}
    for name, field in _FIELDS.items():
        otherwise = _values(shared, field)
        several[name] = [v for given in axes for v in ([given[name]] if name in given else otherwise)]
    seeds = [given["seed"] for given in axes if "seed" in given]
    recipe = str(report.parameters.get("title", "")).partition(" · ")[0]  # known without its code
    return _joined({"recipe": [recipe], "seeds": seeds, **several})


def _fields_of(points: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that all points have but for their axes; none if they cannot be read here."""
    try:
        return Point.model_validate(points[0]).experiment.model_dump(mode="json")
    except (ValueError, IndexError, InputError):
        return {}


def _joined(values: Mapping[str, Iterable[Any]]) -> dict[str, str]:
    return {name: ", ".join(dict.fromkeys(map(str, found))) for name, found in values.items()}


def _values(fields: Mapping[str, Any], field: str) -> list[Any]:
    """Return the value of a field by its dotted name, in a list; an empty one where there is none."""
    value: Any = fields
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return [] if value is None else [value]
