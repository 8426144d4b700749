"""Transfer matrices: which networks fall for whose adversarial examples, and how well they learn from them.

Ilyas et al. 2019, section 3.3 and figure 3: of one source's examples, architectures that fall for more are
those that learn more.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from advfeat.report.correlation import Correlation, correlate
from advfeat.report.groups import Group, groups, varying_axes
from advfeat.report.rows import Row
from advfeat.report.verdict import Verdict, correlation_verdict

_ARCHITECTURES = ("source_model", "target_model")


@dataclass(frozen=True)
class TransferMatrix:
    """The groups of rows at one place on all other axes of a grid, by source and target architecture."""

    place: Mapping[str, Any]
    """Values on the other axes that vary."""
    groups: Mapping[tuple[str, str], Group]

    @property
    def title(self) -> str:
        """The place as a reader would write it; empty where nothing else varies."""
        return ", ".join(f"{axis.replace('_', ' ')} {value}" for axis, value in self.place.items())

    @cached_property
    def sources(self) -> list[str]:
        """Architectures that the examples were made with, in the order of the grid."""
        return list(dict.fromkeys(source for source, _ in self.groups))

    @cached_property
    def targets(self) -> list[str]:
        """Architectures that learned from them, in the order of the grid."""
        return list(dict.fromkeys(target for _, target in self.groups))

    @property
    def rates(self) -> NDArray[np.float64]:
        """Transfer rates, fractions (sources, targets); NaN where the grid has no row."""
        return self._matrix("transfer_rate")

    @property
    def accuracies(self) -> NDArray[np.float64]:
        """Test accuracies of what learned from the examples, fractions (sources, targets); NaN likewise."""
        return self._matrix("test_accuracy")

    @cached_property
    def by_source(self) -> list[Correlation | None]:
        """Of each source's examples, over the targets, as in figure 3; ``None`` where unknown."""
        return [correlate(*pair) for pair in zip(self.rates, self.accuracies, strict=True)]

    @cached_property
    def verdicts(self) -> list[Verdict] | None:
        """Whether each source's correlation bears out that architectures which fall for more learn more.

        ``None`` of recipes that are said not to teach: of their examples nothing is claimed.
        """
        if not next(iter(self.groups.values())).rows[0].teaches:
            return None
        return [correlation_verdict(None if found is None else found.ci95) for found in self.by_source]

    @cached_property
    def over_all(self) -> Correlation | None:
        """Over all pairs of source and target."""
        return correlate(self.rates.ravel(), self.accuracies.ravel())

    def _matrix(self, field: str) -> NDArray[np.float64]:
        found = np.full((len(self.sources), len(self.targets)), np.nan)
        for (source, target), group in self.groups.items():
            value = group.average(field)
            found[self.sources.index(source), self.targets.index(target)] = np.nan if value is None else value
        return found


def transfer_matrices(rows: Sequence[Row]) -> list[TransferMatrix]:
    """Arrange the rows of a grid, one matrix a place on the axes that are no architecture.

    There are none where no transfer rate was measured, or where there is one pair of architectures alone.
    """
    if any(row.transfer_rate is None for row in rows):
        return []
    others = [axis for axis in varying_axes(rows) if axis not in _ARCHITECTURES]
    found: dict[tuple[Any, ...], dict[tuple[str, str], Group]] = {}
    for group in groups(rows):
        pair = str(group.rows[0].source_model), str(group.rows[0].target_model)
        found.setdefault(tuple(group.axes[axis] for axis in others), {})[pair] = group
    return [
        TransferMatrix(dict(zip(others, place, strict=True)), pairs)
        for place, pairs in found.items()
        if len(pairs) > 1
    ]


def transfer_table(matrices: Sequence[TransferMatrix]) -> list[dict[str, Any]]:
    """Return one record a pair of architectures: its place, rate and accuracy, means over seeds."""
    return [
        {
            **matrix.place,
            "source_model": source,
            "target_model": target,
            "seeds": len(group.rows),
            "transfer_rate": group.average("transfer_rate"),
            "test_accuracy": group.mean,
            "test_accuracy_low": group.ci95[0],
            "test_accuracy_high": group.ci95[1],
        }
        for matrix in matrices
        for (source, target), group in matrix.groups.items()
    ]


def transfer_record(matrix: TransferMatrix) -> dict[str, Any]:
    """Return a matrix as JSON holds it: fractions by source and target, correlations and verdicts on them."""
    return {
        "place": dict(matrix.place),
        "sources": matrix.sources,
        "targets": matrix.targets,
        "transfer_rates": _without_nan(matrix.rates),
        "test_accuracies": _without_nan(matrix.accuracies),
        "correlation_by_source": [found and found.model_dump() for found in matrix.by_source],
        "verdict_by_source": matrix.verdicts,
        "correlation_over_all": matrix.over_all and matrix.over_all.model_dump(),
    }


def _without_nan(values: NDArray[np.float64]) -> list[list[float | None]]:
    return [[None if math.isnan(value) else float(value) for value in line] for line in values]
