"""The bars of a report's main figure: a recipe's, or those of a place of a grid."""

from collections.abc import Sequence
from dataclasses import dataclass

from advfeat.report.numbers import interval, percent
from advfeat.report.rows import Row

_ONE_SEED = {"test images": "test images of one seed", "planes": "planes of one seed"}


@dataclass(frozen=True)
class Lane:
    """One bar of the main figure; accuracies are fractions."""

    name: str
    mean: float
    ci95: tuple[float, float] | None
    """``None`` where the bar is over several places and there is one seed."""
    over: str
    """What the interval is over, in words."""
    points: Sequence[float]
    """Each seed, at each place that the bar is over."""
    chance: float
    control: float | None
    published: tuple[float, str] | None
    """A published figure and its setting."""

    @property
    def interval_in_words(self) -> str:
        """Write the interval, and over what it is; empty where there is none."""
        return "" if self.ci95 is None else f"95 % interval {interval(self.ci95)}, over {self.over}"

    @property
    def words(self) -> str:
        """What the bar shows, for those who do not see it."""
        parts = [f"{self.name}: {percent(self.mean)}", self.interval_in_words]
        parts.append(f"each seed {', '.join(map(percent, self.points))}")
        if self.control is not None:
            parts.append(f"control {percent(self.control)}")
        if self.published is not None:
            parts.append(f"published {percent(self.published[0])}")
        return "; ".join(filter(None, [*parts, f"chance {percent(self.chance)}"]))


def lane_of(row: Row) -> Lane:
    """Return the bar of a recipe over its seeds."""
    figure = row.published
    return Lane(
        name=row.recipe,
        mean=row.test_accuracy,
        ci95=row.ci95,
        over=over_what(row.ci95_over, len(row.seeds)),
        points=row.test_accuracies,
        chance=row.chance,
        control=row.control_accuracy,
        published=None if figure is None else (figure.test_accuracy, figure.setting),
    )


def over_what(kind: str, seeds: int) -> str:
    """Say in words what an interval is over: ``seeds``, or of one, ``test images`` or ``planes``."""
    return f"{seeds} seeds" if kind == "seeds" else _ONE_SEED[kind]
