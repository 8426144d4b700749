"""Rows of a grid that differ by their seed alone, taken together."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from advfeat.report.intervals import mean_interval
from advfeat.report.rows import Row
from advfeat.report.verdict import (
    Judgement,
    Verdict,
    accuracy_verdict,
    attack_note,
    robustness_verdict,
    verdict_of_parts,
)

Axes = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """The rows at one place of a grid, a row a seed."""

    axes: Axes
    rows: tuple[Row, ...]

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies, as fractions."""
        return [row.test_accuracy for row in self.rows]

    @property
    def mean(self) -> float:
        """Mean test accuracy, as a fraction."""
        return float(np.mean(self.accuracies))

    @property
    def ci95(self) -> tuple[float, float]:
        """Student's t interval over seeds; that of the test images where there is one seed."""
        return mean_interval(self.accuracies) if len(self.rows) > 1 else self.rows[0].ci95

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, in the order of the rows."""
        return tuple(seed for row in self.rows for seed in row.seeds)

    @property
    def ci95_over(self) -> str:
        """What the interval is over: ``seeds``, or where there is one, ``test images`` or ``planes``."""
        return "seeds" if len(self.rows) > 1 else self.rows[0].ci95_over

    @property
    def robust_ci95(self) -> tuple[float, float] | None:
        """The same of the robust accuracy; ``None`` where it was not measured."""
        accuracies = [row.robust_accuracy for row in self.rows if row.robust_accuracy is not None]
        if len(accuracies) > 1:
            return mean_interval(accuracies)
        return next((row.robust_ci95 for row in self.rows if row.robust_ci95 is not None), None)

    @property
    def robust(self) -> bool | None:
        """Whether the recipe is said to teach robustness; ``None`` where nothing is said of that."""
        return self.rows[0].robust

    @property
    def accuracy_verdict(self) -> Verdict:
        """Whether the interval of the accuracy bears out what is claimed of the recipe."""
        return self._of_accuracy.verdict

    @property
    def robustness_verdict(self) -> Verdict | None:
        """Whether that of the robust accuracy does; ``None`` where it is not claimed or not measured."""
        found = self._of_robustness
        return found and found.verdict

    @property
    def verdict(self) -> Verdict:
        """Whether both do, of those that there are."""
        return self._judgement.verdict

    @property
    def verdict_reason(self) -> str | None:
        """Why it is no other, where the interval alone does not say that: a failed attack, or one seed."""
        return self._judgement.reason

    @property
    def attack_note(self) -> str | None:
        """Said of attacks that succeeded on fewer images than expected; ``None`` where that is not so."""
        return attack_note(self._success)

    @property
    def _judgement(self) -> Judgement:
        return verdict_of_parts(self._of_accuracy, self._of_robustness)

    @property
    def _of_accuracy(self) -> Judgement:
        first = self.rows[0]
        return accuracy_verdict(
            first.teaches, self.ci95, first.chance, attack_success=self._success, one_seed=self._one_seed
        )

    @property
    def _success(self) -> float | None:
        """Attack success, a fraction; ``None`` where the claim is not about images that fool the source."""
        return self.average("attack_success") if self.rows[0].needs_success else None

    @property
    def _of_robustness(self) -> Judgement | None:
        found = robustness_verdict(
            self.robust, self.robust_ci95, self.rows[0].chance, one_seed=self._one_seed
        )
        if found is not None and self.robust is False and found.verdict == "contrary":
            # In a small ball every network is robust, and a grid has no ordinary one to compare with.
            return Judgement("not tested", "a grid has no clean to compare with")
        return found

    @property
    def _one_seed(self) -> bool:
        return self.ci95_over == "test images"

    def average(self, field: str) -> float | None:
        """Return the mean of a field over seeds; None where it has no values."""
        values = [getattr(row, field) for row in self.rows if getattr(row, field) is not None]
        return float(np.mean(values)) if values else None

    @property
    def attacked_ball(self) -> str | None:
        """The ball of the evaluation's attack, which the robust accuracy and its interval are of."""
        return next(iter(self.rows[0].robust_accuracies), None)

    def robust_accuracy(self, ball: str) -> float | None:
        """Return the mean robust accuracy in a ball over seeds; None where it was not measured."""
        return _mean_at(ball, [row.robust_accuracies for row in self.rows])

    def autoattack_accuracy(self, ball: str) -> float | None:
        """Return the same under AutoAttack."""
        return _mean_at(ball, [row.autoattack_accuracies for row in self.rows])


def _mean_at(ball: str, accuracies: Sequence[Mapping[str, float]]) -> float | None:
    values = [by_ball[ball] for by_ball in accuracies if ball in by_ball]
    return float(np.mean(values)) if values else None


def groups(rows: Sequence[Row]) -> list[Group]:
    """Take together the rows that differ by their seed alone, in the order of their values on the axes."""
    found: dict[tuple[tuple[str, Any], ...], list[Row]] = defaultdict(list)
    for row in rows:
        found[tuple((axis, value) for axis, value in row.axes.items() if axis != "seed")].append(row)
    order = {axis: {v: n for n, v in enumerate(axis_values(rows, axis))} for axis in rows[0].axes}
    in_order = sorted(found, key=lambda place: [order[axis][value] for axis, value in place])
    return [Group(dict(place), tuple(found[place])) for place in in_order]


def axis_values(rows: Sequence[Row], axis: str) -> list[Any]:
    """Return the values on an axis, numbers in their order, names as they first appear.

    Texts of numbers, such as ``8/255``, are numbers too.
    """
    values = list(dict.fromkeys(row.axes[axis] for row in rows))
    sizes = [number_of(value) for value in values]
    if any(size is None for size in sizes) or len(set(sizes)) < len(values):
        return values
    return sorted(values, key=lambda value: number_of(value) or 0.0)


def number_of(value: object) -> float | None:
    """Return the number that a value of an axis is, or is the text of; ``None`` of others."""
    try:
        return float(Fraction(value.strip())) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, ZeroDivisionError):
        return None


def varying_axes(rows: Sequence[Row]) -> list[str]:
    """Name the axes, but the seed, on which the rows have several values."""
    names = [axis for axis in rows[0].axes if axis != "seed"]
    return [axis for axis in names if len({row.axes[axis] for row in rows}) > 1]


def over_other_axes(rows: Sequence[Row], axis: str, value: Any) -> tuple[float, tuple[float, float] | None]:
    """Return the mean accuracy at a value of an axis, over all other axes, and its interval over seeds."""
    by_seed = defaultdict(list)
    for row in rows:
        if row.axes[axis] == value:
            by_seed[row.axes["seed"]].append(row.test_accuracy)
    means = [float(np.mean(accuracies)) for accuracies in by_seed.values()]
    return float(np.mean(means)), mean_interval(means) if len(means) > 1 else None
