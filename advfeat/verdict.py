"""Whether what was measured bears out what is said of a recipe."""

from typing import Literal

from advfeat.recipes import Claim

Verdict = Literal["as claimed", "contrary", "open"]


def verdict(claim: Claim, ci95: tuple[float, float], chance: float) -> Verdict:
    """Hold a claim against the 95 % interval of the test accuracy, both fractions.

    A recipe that teaches is above chance with its whole interval, one that does not is below twice chance
    with its whole interval, which holds chance or lies below. Wider intervals leave it open.
    """
    low, high = ci95
    if claim.teaches:
        return "as claimed" if low > chance else "contrary" if high < chance else "open"
    return "contrary" if low > chance else "as claimed" if high < 2 * chance else "open"
