"""Why a stage is new: in what it differs from the nearest artifact of the last runs.

However large the store is, the reports and plans of a few runs are read, and at most some hundred manifests.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from advfeat.storage import Manifest, Stage, Store
from advfeat.storage.runs import read_plan, read_records

_RUNS_COMPARED = 20
_ARTIFACTS_COMPARED = 400
_MOST_PLAN_BYTES = 1 << 20
"""Of a plan that is read in place of manifests; that of a grid of thousands is larger."""


@dataclass(frozen=True)
class _Origin:
    """What makes the digest of a stage, or of an artifact."""

    fields: dict[str, str]
    inputs: dict[str, str]

    def changes_from(self, other: "_Origin") -> list[str]:
        """Name every field and input in which this differs from another."""
        fields = [
            f"{name} {other.fields.get(name, 'unset')} → {self.fields.get(name, 'unset')}"
            for name in _differing(self.fields, other.fields)
        ]
        return fields + [f"another {role}" for role in _differing(self.inputs, other.inputs)]


def _differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


class _Distances(dict[tuple[str, str], tuple[int, int]]):
    """How far two digests are apart, with all that each is made from: recipes that differ, and fields."""

    def __init__(self, origins: dict[str, _Origin]) -> None:
        self._origins = origins

    def __missing__(self, pair: tuple[str, str]) -> tuple[int, int]:
        self[pair] = self._measured(*pair)
        return self[pair]

    def _measured(self, wanted: str, stored: str) -> tuple[int, int]:
        if wanted == stored:
            return 0, 0
        after, before = self._origins.get(wanted), self._origins.get(stored)
        if after is None or before is None:
            return 1, 1  # it may be of any recipe
        changed = _differing(after.fields, before.fields)
        recipes, fields = changed.count("recipe"), len(changed)
        for role in after.inputs.keys() | before.inputs.keys():
            further = self[after.inputs.get(role, ""), before.inputs.get(role, "")]
            recipes, fields = recipes + further[0], fields + further[1]
        return recipes, fields


class Novelties:
    """Compares the stages of a plan with stored artifacts.

    The nearest artifact is one of the same kind and, as far as there are such, of the same recipe, that
    differs in the fewest fields, those of all that it was made from included: an evaluation under a new
    eps is compared with one under another eps, not with that of another recipe.
    """

    def __init__(self, planned: Iterable[Stage], stored: Iterable[Stage | Manifest]) -> None:
        self._origins: dict[str, _Origin] = {}
        self._stored: dict[str, list[str]] = defaultdict(list)
        for made in stored:
            self._origins[made.digest] = _origin(made)
            self._stored[made.kind if isinstance(made, Stage) else made.stage].append(made.digest)
        self._origins |= {stage.digest: _origin(stage) for stage in planned}
        self._distances = _Distances(self._origins)

    def of(self, stage: Stage) -> str | None:
        """Say in what a planned stage differs from the nearest artifact of its kind, if there is any."""
        if not (candidates := self._stored[stage.kind]):
            return None
        nearest = min(candidates, key=lambda digest: self._distances[stage.digest, digest])
        changes = self._origins[stage.digest].changes_from(self._origins[nearest])
        if not changes:
            return None
        return "new: " + ", ".join(changes[:3]) + (", …" if len(changes) > 3 else "")


def artifacts_of_last_runs(store: Store) -> list[Stage | Manifest]:
    """Return what made the artifacts of a store's last runs, those of the last run first.

    A run's plan tells it of all of them in one request, as far as its report was made from them; of what no
    plan tells, such as stages of an earlier version, manifests are read.
    """
    records = read_records(store, newest=_RUNS_COMPARED)[::-1]
    told = {record.report for record in records if record.report is not None}
    reports = {manifest.digest: manifest for manifest in store.readable_manifests(told)}
    made: dict[str, Stage | Manifest | None] = {}
    for record in records:
        if len(made) >= _ARTIFACTS_COMPARED:
            break
        planned = {stage.digest: stage for stage in read_plan(store, record.run, _MOST_PLAN_BYTES) or ()}
        report = reports.get(record.report or "")
        if report is not None:
            made.setdefault(report.digest, report)
        # One that was cut off may have made any of its plan.
        of_run = planned if report is None else dict.fromkeys(report.inputs.values())
        for digest in of_run:
            made.setdefault(digest, None if report is None else planned.get(digest))
    chosen = dict(islice(made.items(), _ARTIFACTS_COMPARED))
    unknown = [digest for digest, one in chosen.items() if one is None]
    chosen |= {manifest.digest: manifest for manifest in store.readable_manifests(unknown)}
    return [one for one in chosen.values() if one is not None]


def _origin(made: Stage | Manifest) -> _Origin:
    fields = {"version": str(made.version)} if made.version else {}
    pending: list[tuple[str, Any]] = list(made.parameters.items())
    while pending:
        name, value = pending.pop()
        if isinstance(value, dict):
            pending += [(f"{name}.{key}", entry) for key, entry in value.items()]
        else:
            fields[name] = str(value)
    return _Origin(fields, made.inputs)
