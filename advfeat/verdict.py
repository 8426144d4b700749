"""Whether what was measured bears out what is said of a recipe."""

from typing import Literal

from advfeat.recipes import Claim

Verdict = Literal["as claimed", "contrary", "open"]


def verdict(claim: Claim, ci95: tuple[float, float], chance: float) -> Verdict:
    """Hold a claim against the 95 % interval of the test accuracy, both fractions.

    A recipe that teaches is above chance with its whole interval; one that does not has an interval that
    chance lies in or above. An interval that holds chance leaves open whether a recipe teaches.
    """
    low, high = ci95
    if claim.teaches:
        return "as claimed" if low > chance else "contrary" if high < chance else "open"
    return "contrary" if low > chance else "as claimed"
