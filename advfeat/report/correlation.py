"""Whether two measures go together: Pearson's correlation and how sure one can be of it."""

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

_FEWEST_POINTS = 3
"""Two always lie on a line."""


class Correlation(BaseModel):
    """Pearson's r over some points, with Fisher's 95 % interval where there are four or more."""

    model_config = ConfigDict(frozen=True)

    points: int
    r: float
    ci95: tuple[float, float] | None


def correlate(first: NDArray[np.float64], second: NDArray[np.float64]) -> Correlation | None:
    """Correlate two measures (N,), without the places where either is NaN.

    The interval takes the points for independent draws. ``None`` where fewer than three are left, or where
    a measure is the same at all of them.
    """
    there = ~np.isnan(first) & ~np.isnan(second)
    if (count := int(there.sum())) < _FEWEST_POINTS:
        return None
    from scipy.stats import ConstantInputWarning, pearsonr  # a second that only a grid needs

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)
        found = pearsonr(first[there], second[there])
    if math.isnan(found.statistic):
        return None
    low, high = found.confidence_interval()
    interval = (float(low), float(high)) if count > _FEWEST_POINTS else None
    return Correlation(points=count, r=float(found.statistic), ci95=interval)
