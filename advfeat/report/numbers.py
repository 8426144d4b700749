"""How numbers are written, in tables, pages and on the terminal."""

from collections.abc import Iterable

from advfeat.report.correlation import Correlation
from advfeat.spec import Norm

_NORMS: dict[Norm, str] = {"l2": "L2", "linf": "L-infinity", "l1": "L1", "l0": "L0"}
_INTERVALS = {
    "seeds": "Student's t over seeds",
    "test images": "Wilson's over test images",
    "planes": "Student's t over planes",
}
_LONGEST = 24


def interval_note(kinds: Iterable[str]) -> str:
    """Say what intervals are over, each kind once: ``seeds``, ``test images`` or ``planes``."""
    return " or ".join(_INTERVALS[kind] for kind in dict.fromkeys(kinds))


def share(fraction: float | None) -> str:
    """Write a number in [0, 1] with two decimals; a dash if there is none."""
    return "–" if fraction is None else f"{fraction:.2f}"


def points(difference: float | None) -> str:
    """Write a difference of two fractions in percentage points; a dash if there is none."""
    return "–" if difference is None else f"{100 * difference:+.1f}"


def percent(fraction: float | None) -> str:
    """Write a fraction as a percentage with one decimal; a dash if there is none."""
    return "–" if fraction is None else f"{100 * fraction:.1f} %"


def interval(ci95: tuple[float, float] | None) -> str:
    """Write an interval of fractions as percentages; a dash if there is none."""
    return "–" if ci95 is None else f"{percent(ci95[0])} to {percent(ci95[1])}"


def ball(norm: Norm, eps: float) -> str:
    """Name a ball by its norm and radius, pixels in [0, 1]; of l0 by how many values may change."""
    return f"{_NORMS[norm]} {eps:,.0f}" if norm == "l0" else f"{_NORMS[norm]} {eps:.6g}"


def correlation(found: Correlation | None) -> str:
    """Write a correlation with its interval and how many points it is over; a dash if there is none."""
    if found is None:
        return "–"
    reach = "" if found.ci95 is None else f" [{found.ci95[0]:.2f}, {found.ci95[1]:.2f}]"
    return f"r = {found.r:.2f}{reach}, {found.points} points"


def shortened(value: object) -> str:
    """Write a value of an axis; of a long path the end."""
    text = str(value)
    return text if len(text) <= _LONGEST else f"…{text[1 - _LONGEST :]}"
