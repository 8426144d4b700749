"""How sure one can be of an accuracy: 95 % confidence intervals."""

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

_CONFIDENCE = 0.95


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a proportion (Wilson 1927), as fractions."""
    z = float(stdtrit(np.inf, (1 + _CONFIDENCE) / 2))
    centre = (successes + z**2 / 2) / (trials + z**2)
    half = z / (trials + z**2) * (successes * (trials - successes) / trials + z**2 / 4) ** 0.5
    return max(0.0, centre - half), min(1.0, centre + half)


def mean_interval(fractions: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of at least two fractions (Student's t), in [0, 1]."""
    mean, count = float(np.mean(fractions)), len(fractions)
    half = float(stdtrit(count - 1, (1 + _CONFIDENCE) / 2) * np.std(fractions, ddof=1) / count**0.5)
    return max(0.0, mean - half), min(1.0, mean + half)
