"""Whether what was measured bears out what is said of a recipe."""

from typing import Literal

Verdict = Literal["as claimed", "contrary", "open"]


def highest_of_no_lesson(chance: float) -> float:
    """Return what the accuracy of a recipe that does not teach stays below, with its whole interval."""
    return 2 * chance


def verdict(teaches: bool, ci95: tuple[float, float], chance: float) -> Verdict:
    """Hold the claim that a recipe teaches, or does not, against the 95 % interval of the test accuracy.

    One that teaches is above chance with its whole interval, one that does not is below twice chance with
    its whole interval, which holds chance or lies below. Wider intervals leave it open. All are fractions.
    """
    low, high = ci95
    if teaches:
        return "as claimed" if low > chance else "contrary" if high < chance else "open"
    return "contrary" if low > chance else "as claimed" if high < highest_of_no_lesson(chance) else "open"
