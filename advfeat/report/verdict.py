"""Whether what was measured bears out what is said of a recipe."""

from typing import Literal

Verdict = Literal["as claimed", "contrary", "open"]
Interval = tuple[float, float]


def highest_of_no_lesson(chance: float) -> float:
    """Return what the accuracy of a recipe that does not teach stays below, with its whole interval."""
    return 2 * chance


def verdict(teaches: bool, ci95: Interval, chance: float) -> Verdict:
    """Hold the claim that a recipe teaches, or does not, against the 95 % interval of the test accuracy.

    One that teaches is above chance with its whole interval, one that does not is below twice chance with
    its whole interval, which holds chance or lies below. Wider intervals leave it open. All are fractions.
    """
    low, high = ci95
    if teaches:
        return "as claimed" if low > chance else "contrary" if high < chance else "open"
    return "contrary" if low > chance else "as claimed" if high < highest_of_no_lesson(chance) else "open"


def robustness_verdict(
    robust: bool | None, ci95: Interval | None, chance: float, ordinary: float | None = None
) -> Verdict | None:
    """Hold the claim that a recipe teaches robustness, or none, against the interval of the robust accuracy.

    A network that calls all images the same is right on chance of them under any attack; more takes features
    that withstand it, and in a small ball ordinary training learns some: ``ordinary`` is what remains of it
    under the same attack, where that is known. So what teaches robustness is above both with its whole
    interval, what teaches none is below chance with its whole interval. All are fractions. ``None`` where
    nothing is claimed of it, or where it was not measured.
    """
    if robust is None or ci95 is None:
        return None
    (low, high), bar = ci95, max(chance, ordinary or 0) if robust else chance
    if low <= bar <= high:
        return "open"
    return "as claimed" if (low > bar) == robust else "contrary"


def correlation_verdict(ci95: Interval | None) -> Verdict:
    """Hold the claim that two measures rise together against the 95 % interval of their correlation.

    It is open where there are too few points for an interval.
    """
    if ci95 is None:
        return "open"
    low, high = ci95
    return "as claimed" if low > 0 else "contrary" if high < 0 else "open"


def verdict_of_parts(accuracy: Verdict, robustness: Verdict | None) -> Verdict:
    """Judge a claim by its parts: as claimed if both are, contrary if one is, else open.

    Where there is no verdict on robustness, that on accuracy is the claim's.
    """
    parts = {accuracy, robustness}
    return "contrary" if "contrary" in parts else "open" if "open" in parts else "as claimed"
